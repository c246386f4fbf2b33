"""Writes the configuration files that TensorFlow Serving's container, or the embedded server, starts with."""
