"""Benchmarks of Ladle's servers against empty handlers, TensorFlow and other servers; wrk and h2load make the load.

python -m benchmarks --help
"""

import os

# ONNX Runtime looks up a telemetry host and keeps a device id under the user's cache folder unless this is set before
# its import. A package's __init__ runs before any of its modules, so no module below can import it too early.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Everything that is measured is on this machine, where a proxy that Docker or a shell sets cannot reach it.
for name in ("no_proxy", "NO_PROXY"):
    os.environ[name] = ",".join(filter(None, ("127.0.0.1,localhost", os.environ.get(name))))
