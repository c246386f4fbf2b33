"""Models unloaded and loaded by NVIDIA's tritonclient; prints what it saw as JSON.

python triton_control.py grpc|http HOST:PORT
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

protocol, address = sys.argv[1:]
library: Any = importlib.import_module(f"tritonclient.{protocol}")
client = library.InferenceServerClient(address)


def state() -> Any:
    rows = client.get_model_repository_index()
    if protocol == "grpc":
        return [row.state for row in rows.models if row.name == "half_plus_two"]
    return [row["state"] for row in rows if row["name"] == "half_plus_two"]


def refusal(**files: Any) -> str:
    try:
        client.load_model("half_plus_two", **files)
    except library.InferenceServerException as error:
        return str(error.message())
    return ""


seen: dict[str, Any] = {"before": client.is_model_ready("half_plus_two")}
client.unload_model("half_plus_two")
seen["unloaded"] = client.is_model_ready("half_plus_two")
client.load_model("half_plus_two")
seen["loaded"] = client.is_model_ready("half_plus_two")
seen["state"] = state()
seen["config"] = refusal(config="{}")
print(json.dumps(seen))
