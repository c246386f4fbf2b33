"""mosec: a Rust front, one Python worker a process; JSON through orjson. No batching: a worker takes what comes."""

from __future__ import annotations

import orjson
from graph import WORKERS, Graph
from mosec import Server, Worker


class Predict(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph()

    def deserialize(self, data: bytes) -> dict:
        return orjson.loads(data)

    def forward(self, data: dict) -> dict:
        return self.graph.predict(data)

    def serialize(self, data: dict) -> bytes:
        return orjson.dumps(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Predict, num=WORKERS)
    server.run()
