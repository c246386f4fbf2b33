"""LitServe: a FastAPI front with workers behind a ZeroMQ queue (fast_queue); orjson writes the answers."""

from __future__ import annotations

import litserve
import orjson
from fastapi import Response
from graph import PORT, WORKERS, Graph


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.graph = Graph()

    def decode_request(self, request: dict) -> dict:
        return request

    def predict(self, request: dict) -> dict:
        return self.graph.predict(request)

    def encode_response(self, output: dict) -> Response:
        content = orjson.dumps(output)
        return Response(content=content, media_type="application/json")


if __name__ == "__main__":
    api = Api(api_path="/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, fast_queue=True)
    server.run(host="127.0.0.1", port=PORT, num_api_servers=WORKERS, log_level="error", generate_client_file=False)
