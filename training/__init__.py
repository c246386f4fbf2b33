"""The offline half: data sets, the training loop, evaluation and export."""

import os

import ladle.models  # noqa: F401  chooses TensorFlow's kernels, before any module below imports it

# ONNX Runtime looks up a telemetry host and keeps a device id under the user's cache folder unless this is set before
# its import. A package's __init__ runs before any of its modules, so no module below can import it too early.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
