"""The bytes on the wire: protobuf messages, tensors, and REST's JSON. The server reads and writes with it too."""
