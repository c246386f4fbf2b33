"""The Open Inference Protocol by NVIDIA's tritonclient; prints the answers as JSON.

python triton.py grpc|http HOST:PORT
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import numpy as np

protocol, address = sys.argv[1:]
library: Any = importlib.import_module(f"tritonclient.{protocol}")
client = library.InferenceServerClient(address)


def predict(name: str, array: Any) -> Any:
    x = library.InferInput("x", array.shape, "FP32")
    x.set_data_from_numpy(array)
    return client.infer(name, [x]).as_numpy("y")


try:
    unknown = predict("nope", np.ones((1, 1), np.float32))
except library.InferenceServerException as error:
    unknown = [str(error.status()), error.message()]
state = client.get_model_repository_index()
rows = (
    [[m.name, int(m.version), m.state] for m in state.models]
    if protocol == "grpc"
    else [[m["name"], int(m["version"]), m["state"]] for m in state]
)
answers = {
    "predict": predict("half_plus_two", np.array([[1.0], [2.0]], np.float32)).ravel().tolist(),
    "large": len(predict("half_plus_two", np.ones((250_000, 1), np.float32))),
    "status": [[version, state] for name, version, state in rows if name == "half_plus_two"],
    "unknown": unknown,
    "ready": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("half_plus_two")],
    "inputs": client.get_model_metadata("half_plus_two", as_json=True)["inputs"]
    if protocol == "grpc"
    else client.get_model_metadata("half_plus_two")["inputs"],
}
print(json.dumps(answers))
