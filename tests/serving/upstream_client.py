"""Every method, asked with the stubs and helpers of tensorflow-serving-api and TensorFlow; prints the answers as JSON.

python upstream_client.py HOST:PORT
"""

from __future__ import annotations

import json
import sys
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

channel = grpc.insecure_channel(sys.argv[1])
prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
models = model_service_pb2_grpc.ModelServiceStub(channel)


def ask(request: Any, signature: str = "", model: str = "half_plus_two") -> Any:
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if hasattr(request, "input"):
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(2.0)
    return request


def refusal(call: Any, request: Any) -> list[str]:
    try:
        call(request, 30)
    except grpc.RpcError as error:
        return [error.code().name, error.details()]
    return ["OK", ""]


predict = ask(predict_pb2.PredictRequest())
predict.inputs["x"].CopyFrom(tf.make_tensor_proto([[1.0], [2.0]]))
classes = prediction.Classify(ask(classification_pb2.ClassificationRequest(), "classify_x"), 30)
numbers = prediction.Regress(ask(regression_pb2.RegressionRequest(), "regress_x"), 30)
multi = inference_pb2.MultiInferenceRequest()
multi.input.example_list.examples.add().features.feature["x"].float_list.value.append(4.0)
ask(multi.tasks.add(method_name="tensorflow/serving/regress"), "regress_x")
metadata = ask(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]))
signatures = get_model_metadata_pb2.SignatureDefMap()
answer = prediction.GetModelMetadata(metadata, 30)
assert answer.metadata["signature_def"].Unpack(signatures)
status = models.GetModelStatus(ask(get_model_status_pb2.GetModelStatusRequest()), 30).model_version_status

print(
    json.dumps(
        {
            "predict": tf.make_ndarray(prediction.Predict(predict, 30).outputs["y"]).tolist(),
            "classify": [one.score for one in classes.result.classifications[0].classes],
            "regress": [one.value for one in numbers.result.regressions],
            "multi": [
                task.regression_result.regressions[0].value for task in prediction.MultiInference(multi, 30).results
            ],
            "signatures": sorted(signatures.signature_def),
            "dtype": signatures.signature_def["serving_default"].inputs["x"].dtype == tf.float32.as_datatype_enum,
            "status": [[one.version, one.state == one.AVAILABLE, one.status.error_code] for one in status],
            "reload": refusal(models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest()),
            "unknown": refusal(prediction.Predict, ask(predict_pb2.PredictRequest(), model="nope")),
        }
    )
)
