"""The Open Inference Protocol (KServe's V2) as the client's other protocol, over REST and gRPC."""
