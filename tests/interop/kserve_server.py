"""A model server of KServe's own, in an environment that has KServe and nothing of ours: y = x / 2 + 2.

python kserve_server.py HTTP_PORT GRPC_PORT
"""

import sys
from typing import Any

import kserve
import numpy as np
from kserve import InferOutput, InferRequest, InferResponse


class Half(kserve.Model):
    """Declares its tensors, as KServe's model servers for frameworks do."""

    def __init__(self) -> None:
        super().__init__("half")
        self.ready = True

    async def get_input_types(self) -> list[dict[str, Any]]:
        return [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]

    async def get_output_types(self) -> list[dict[str, Any]]:
        return [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}]

    def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        y = payload.inputs[0].as_numpy() / 2 + 2
        output = InferOutput("y", list(y.shape), "FP32")
        output.set_data_from_numpy(y.astype(np.float32), binary_data=False)
        return InferResponse(payload.id or "", self.name, [output])


if __name__ == "__main__":
    http_port, grpc_port = map(int, sys.argv[1:])
    kserve.ModelServer(http_port=http_port, grpc_port=grpc_port, enable_grpc=True).start([Half()])
