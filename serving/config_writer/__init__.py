"""The configuration that TensorFlow Serving's container starts with; the embedded server starts with the same files."""
