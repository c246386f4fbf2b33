"""One small server for each rival: the same ONNX graph, the same session, its own way of serving.

These files run in the rival's own environment (`benchmarks/install.py`), never in the project's. Each reads GRAPH (the
ONNX file), PORT, WORKERS and, where it merges requests, BATCH from its environment and answers TensorFlow Serving's
row format, MLServer its own V2.
"""
