"""`python -m serving`: the model server. `--help` lists its flags."""

from __future__ import annotations

import sys

from serving.command import main
from serving.lifecycle import leave

if __name__ == "__main__":
    leave(main(sys.argv[1:]))
