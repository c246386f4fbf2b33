"""TensorFlow's operations on strings, lookup tables, hashes and ragged rows, in NumPy: what an ONNX graph cannot do."""
