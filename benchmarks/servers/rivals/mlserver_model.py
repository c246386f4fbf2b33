"""MLServer: the V2 protocol, as JSON or as gRPC with raw contents."""

from __future__ import annotations

from graph import Graph
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Model(MLModel):
    async def load(self) -> bool:
        self.graph = Graph()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        array = NumpyCodec.decode_input(payload.inputs[0])
        outputs = self.graph.run(array)
        encoded = [NumpyCodec.encode_output(name, output) for name, output in outputs.items()]
        return InferenceResponse(model_name=self.name, outputs=encoded)
