"""JSON bodies read and written as TensorFlow Serving reads and writes them."""
