"""`python -m serving`: the model server. `--help` lists its flags."""

from __future__ import annotations

import sys

from serving.server import leave, main

if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    leave(status)
