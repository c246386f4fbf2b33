"""`python -m ladle.serving`: the model server. `--help` lists its flags."""

from __future__ import annotations

import sys

from ladle.serving.command import main
from ladle.serving.repository.assembly import leave

if __name__ == "__main__":
    leave(main(sys.argv[1:]))
