"""The operations of the server, in NumPy. They know neither gRPC nor HTTP."""
