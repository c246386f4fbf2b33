"""gRPC: TensorFlow Serving's services on our own HTTP/2 server or on grpcio."""
