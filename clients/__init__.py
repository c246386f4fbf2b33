"""Clients of a model server: library, command line and web gateway. They need no TensorFlow and no other room."""
