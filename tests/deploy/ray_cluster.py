"""Runs in an environment that has Ray: a cluster of two nodes on this machine, asked while it changes.

    python ray_cluster.py REPOSITORY NEXT     REPOSITORY holds half_plus_two/1; NEXT is its version 2, to be moved there

Prints what it saw as one line of JSON.
"""

import json
import shutil
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import ray
from ray import serve
from ray.cluster_utils import Cluster

from ladle import Client
from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.serving.ray_serve import application, command

DEADLINE_S = 240


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


PORT, REST = free_port(), free_port()


def http(path: str, body: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{REST}{path}", body)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def stub() -> Any:
    channel = grpc.insecure_channel(f"127.0.0.1:{PORT}")
    return channel.unary_unary(f"/{services.PREDICTION}/Predict")


def request(model: str = "half_plus_two") -> bytes:
    message = pb.PredictRequest(model_spec={"name": model})
    tensors.fill(message.inputs["x"], np.ones((1, 1), np.float32))
    return bytes(message.SerializeToString())


class Load:
    """Asks one after the other in threads until it is stopped; what failed is asked once more, up to five times."""

    def __init__(self, threads: int = 2) -> None:
        self.answers: set[tuple[float, int]] = set()
        self.first, self.lost, self.asked, self.codes = 0, 0, 0, set[str]()
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        predict, message = stub(), request()
        while not self._stop.is_set():
            for attempt in range(6):
                try:
                    answer = pb.PredictResponse.FromString(predict(message, timeout=60))
                    break
                except grpc.RpcError as error:
                    with self._lock:
                        self.first += attempt == 0
                        self.lost += attempt == 5
                        self.codes.add(error.code().name)
                    time.sleep(0.2 * 2**attempt)
            else:
                continue
            with self._lock:
                self.asked += 1
                value = float(tensors.to_array(answer.outputs["y"]).ravel()[0])
                self.answers.add((value, answer.model_spec.version.value))

    def stop(self) -> dict[str, Any]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return {
            "asked": self.asked,
            "failed_first": self.first,
            "lost": self.lost,
            "codes": sorted(self.codes),
            "answers": sorted(self.answers),
        }


def wait_for(what: Any) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, "not reached"
        time.sleep(0.05)


def main(repository: Path, following: Path) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    command.start("127.0.0.1", PORT, REST, location="HeadOnly")
    # A core a node and a core a replica: each node has one.
    settings = application.Settings(str(repository), ("half_plus_two",), min_replicas=2, max_replicas=2, routers=2)
    serve.run(application.make(settings), name="ladle", route_prefix="/")

    seen["rest"] = http("/v1/models/half_plus_two:predict", b'{"instances": [[1.0]]}')[0]
    seen["ready"] = http("/v2/health/ready")[0]
    v2 = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
    seen["v2"] = json.loads(http("/v2/models/half_plus_two/infer", json.dumps(v2).encode())[1])["outputs"][0]["data"]
    seen["refused"] = http("/v1/models/half_plus_two:predict", b'{"instances": [["a"]]}')[0]
    status, body = http("/v1/models/nope:predict", b"{}")
    seen["unknown"] = [status, json.loads(body)["error"]]
    try:
        stub()(request("nope"), timeout=60)
    except grpc.RpcError as error:
        seen["unknown over gRPC"] = [error.code().name, error.details()]
    with Client(f"grpc://127.0.0.1:{PORT}") as client:
        seen["client"] = client.predict("half_plus_two", {"x": [[1.0]]})["y"].tolist()

    print("up", file=sys.stderr, flush=True)
    load = Load()
    wait_for(lambda: load.asked > 20)
    shutil.move(following, repository / "half_plus_two" / ".2")
    (repository / "half_plus_two" / ".2").rename(repository / "half_plus_two" / "2")
    wait_for(lambda: any(version == 2 for _, version in load.answers))
    after = load.asked
    wait_for(lambda: load.asked > after + 20)
    seen["rolled"] = load.stop()
    print("rolled", file=sys.stderr, flush=True)

    load = Load()
    wait_for(lambda: load.asked > 20)
    began = time.monotonic()
    cluster.remove_node(second, allow_graceful=False)
    after = load.asked
    wait_for(lambda: time.monotonic() > began + 8 and load.asked > after + 20)
    seen["killed"] = load.stop()

    def replicas() -> int:
        deployments = serve.status().applications["ladle"].deployments
        return int(deployments["half_plus_two"].replica_states.get("RUNNING", 0))

    wait_for(lambda: replicas() == 1)  # the node that is left has a core for one; Ray's count follows later
    seen["replicas left"] = replicas()
    print("killed", file=sys.stderr, flush=True)
    print(json.dumps(seen), file=sys.stderr, flush=True)
    serve.delete("ladle")

    settings = application.Settings(repository=str(repository), models_per_replica=1, max_replicas=1)
    serve.run(application.make(settings), name="many", route_prefix="/")
    seen["many"] = [
        json.loads(http(f"/v1/models/{name}:predict", b'{"instances": [[1.0]]}')[1])["predictions"]
        for name in ("half_plus_two", "half_plus_three", "half_plus_two")
    ]
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()
    return seen


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
