"""Reads files in protobuf's text format."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.serving.errors import InvalidArgument


def read_text_proto(path: Path, message: Any, report: bool = True) -> Any:
    """Reads a text-format file into a message of this class.

    report  prints line, column and reason to stderr, as TensorFlow Serving does, if it cannot be read

    InvalidArgument when it cannot be read.
    """
    from google.protobuf import text_format  # takes a tenth of the start-up time, and most servers have no such file

    try:
        return text_format.Parse(path.read_text(), message(), descriptor_pool=pb.POOL)
    except OSError as error:
        raise InvalidArgument(f"Invalid protobuf file: '{path}': {error.strerror}") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        reason = re.sub(r"^(\d+:\d+) : ", r"\1: ", str(error))
        if report:
            print(f"Error parsing text-format {message.DESCRIPTOR.full_name}: {reason}", file=sys.stderr, flush=True)
        raise InvalidArgument(f"Invalid protobuf file: '{path}'") from None
