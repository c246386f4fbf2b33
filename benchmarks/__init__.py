"""Benchmarks: Ladle's servers under load from wrk and h2load, next to empty handlers, TensorFlow and other servers.

python -m benchmarks --help
"""
