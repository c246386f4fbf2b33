"""Divides a signature into what runs on the host (strings, lookup tables, hashes) and a core for an ONNX graph."""
