"""KServe's own Python clients, asked in an environment that has KServe and nothing of ours.

python kserve_client.py ask REST_URL GRPC_ADDRESS MODEL     prints the answers as JSON
python kserve_client.py check FILE...                       prints what its models know nothing of, as JSON
"""

import asyncio
import json
import re
import sys
from datetime import datetime
from typing import Any

import kserve
import kubernetes.client
import numpy as np
import yaml
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

SIMPLE = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object, "datetime": datetime}


async def ask(rest: str, grpc: str, model: str) -> dict[str, Any]:
    x = np.array([[1.0], [2.0]], np.float32)
    answers: dict[str, Any] = {}
    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    answers["v1"] = (await v1.infer(rest, {"instances": [[1.0], [2.0]]}, model_name=model))["predictions"]
    answers["v1 live"] = await v1.is_server_live(rest)
    answers["v1 model"] = await v1.is_model_ready(rest, model)
    v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
    answers["v2 live"], answers["v2 ready"] = await v2.is_server_live(rest), await v2.is_server_ready(rest)
    answers["v2 model"] = await v2.is_model_ready(rest, model)
    client = InferenceGRPCClient(grpc)
    answers["grpc live"], answers["grpc ready"] = await client.is_server_live(), await client.is_server_ready()
    answers["grpc model"] = await client.is_model_ready(model)
    for name, is_binary in (("json", False), ("binary", True)):
        tensor = InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x, binary_data=is_binary)
        request = InferRequest(model_name=model, infer_inputs=[tensor], request_id=name)
        for protocol, answer in (
            ("v2", await v2.infer(rest, request, model_name=model)),
            ("grpc", await client.infer(request)),
        ):
            assert answer.id == name
            answers[f"{protocol} {name}"] = answer.outputs[0].as_numpy().tolist()
    try:
        await v2.infer(rest, request, model_name="nope")
    except Exception as error:  # whatever KServe raises is what its callers see
        answers["v2 unknown"] = str(error)
    await v1.close()
    await v2.close()
    await client.close()
    return answers


def of(name: str) -> Any:
    return getattr(kserve, name, None) or getattr(kubernetes.client, name, None)


def unknown(value: Any, kind: str, at: str) -> list[str]:
    """Where a value is not what KServe's and Kubernetes' models say: fields that they lack, and other types."""
    if found := re.fullmatch(r"list\[(.*)\]", kind):
        if not isinstance(value, list):
            return [f"{at}: {value!r} is no list"]
        return [wrong for i, each in enumerate(value) for wrong in unknown(each, found[1], f"{at}[{i}]")]
    if found := re.fullmatch(r"dict\(str, (.*)\)", kind):
        if not isinstance(value, dict):
            return [f"{at}: {value!r} is no mapping"]
        return [wrong for name, each in value.items() for wrong in unknown(each, found[1], f"{at}.{name}")]
    if kind in SIMPLE:
        return [] if isinstance(value, SIMPLE[kind]) else [f"{at}: {value!r} is no {kind}"]
    model = of(kind)
    if model is None:  # types that the generator took over as they are: quantities, int-or-string
        return []
    names = {model.attribute_map[name]: of_type for name, of_type in model.openapi_types.items()}
    if not isinstance(value, dict):
        return [f"{at}: {value!r} is no {kind}"]
    wrong = [f"{at}.{name}: {kind} has no such field" for name in set(value) - set(names)]
    return wrong + [
        each for name in set(value) & set(names) for each in unknown(value[name], names[name], f"{at}.{name}")
    ]


def check(files: list[str]) -> list[str]:
    found = []
    for file in files:
        with open(file) as opened:
            value = yaml.safe_load(opened)
        version = value["apiVersion"].removeprefix("serving.kserve.io/v1").capitalize()
        found += unknown(value, f"V1{version.lower()}{value['kind']}", file)
    return found


if __name__ == "__main__":
    verb, *given = sys.argv[1:]
    print(json.dumps(check(given) if verb == "check" else asyncio.run(ask(*given))))
