"""TensorFlow functions become ONNX graphs, simplified and compared with TensorFlow."""
