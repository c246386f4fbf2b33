"""One small server for each rival: the same ONNX graph and session settings in the rival's framework.

These files run in the rival's own environment (`benchmarks/servers/install.py`), never in the project's. Each reads
GRAPH (the ONNX file), PORT, WORKERS and, if it can merge requests, BATCH from its environment. All answer in TensorFlow
Serving's row format, except MLServer, which answers in V2.
"""
