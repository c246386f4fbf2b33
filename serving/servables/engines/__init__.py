"""What runs a signature: ONNX Runtime, TensorFlow or TensorFlow Lite."""
