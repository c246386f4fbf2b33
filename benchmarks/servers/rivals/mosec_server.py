"""mosec: a Rust front with one process per Python worker; orjson reads and writes the JSON.

With BATCH above 1, mosec merges up to BATCH requests that arrive within 1 ms into one run.
"""

from __future__ import annotations

import orjson
from graph import BATCH, WORKERS, Graph
from mosec import Server, Worker


class Predict(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> bytes:
        return self.graph.answer(data)

    def serialize(self, data: bytes) -> bytes:
        return data


class PredictBatch(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph()

    def deserialize(self, data: bytes) -> dict:
        return orjson.loads(data)

    def forward(self, data: list[dict]) -> list[dict]:
        rows = [row for request in data for row in request["instances"]]
        answers = iter(self.graph.predict({"instances": rows})["predictions"])
        return [{"predictions": [next(answers) for _ in request["instances"]]} for request in data]

    def serialize(self, data: dict) -> bytes:
        return orjson.dumps(data)


if __name__ == "__main__":
    server = Server()
    if BATCH > 1:
        server.append_worker(PredictBatch, num=WORKERS, max_batch_size=BATCH, max_wait_time=1)
    else:
        server.append_worker(Predict, num=WORKERS)
    server.run()
