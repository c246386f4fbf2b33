"""`python -m ladle`: the `ladle` command."""

from __future__ import annotations

import sys

from ladle.command import main

if __name__ == "__main__":
    sys.exit(main())
