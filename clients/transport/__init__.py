"""Requests and answers over gRPC and REST."""
