"""HTTP/2 as far as a gRPC server needs it (RFC 9113, RFC 7541)."""
