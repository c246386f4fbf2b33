"""REST: TensorFlow Serving's HTTP interface."""
