"""Connections to a model server, over gRPC and REST, blocking and asynchronous."""
