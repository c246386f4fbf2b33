"""`python -m ladle.clients VERB`: the verbs that ask a server."""

from __future__ import annotations

import sys

from ladle.clients.cli.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
