"""What python-rapidjson says of each JSON text: lines of hexadecimal bytes come in, JSON lines go out.

A line is null for a text that is accepted, else [message, offset].
"""

from __future__ import annotations

import json
import re
import sys

import rapidjson  # type: ignore[import-not-found]

MODE = rapidjson.NM_NATIVE | rapidjson.NM_NAN
for line in sys.stdin:
    try:
        rapidjson.loads(bytes.fromhex(line), number_mode=MODE, parse_mode=rapidjson.PM_NONE)
    except rapidjson.JSONDecodeError as error:
        found = re.fullmatch(r"Parse error at offset (\d+): (.*)", str(error), re.DOTALL)
        print(json.dumps([found[2], int(found[1])] if found else [str(error), -1]))
    except (ValueError, UnicodeDecodeError) as error:
        print(json.dumps([str(error), -1]))
    else:
        print("null")
