"""The server's operations, on NumPy arrays. They know neither gRPC nor HTTP."""
