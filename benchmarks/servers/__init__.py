"""What is started: our server, empty handlers, ONNX Runtime alone, and other model servers."""
