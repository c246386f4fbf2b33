"""The Open Inference Protocol (KServe's V2) on the core: what its REST and its gRPC interface share."""
