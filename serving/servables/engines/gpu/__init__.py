"""A GPU: whether ONNX Runtime can use it, and how graphs run on it."""
