"""`python -m ladle.serving`: the model server. `--help` lists the flags."""

from __future__ import annotations

import sys

from ladle.serving.command import main
from ladle.serving.runtime.process_exit import exit_now

if __name__ == "__main__":
    exit_now(main(sys.argv[1:]))
