"""Writes sampled requests with their answers to files, as TensorFlow Serving's `LoggingConfig` describes."""
