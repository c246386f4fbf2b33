"""ModelServerConfig: what is accepted, and TensorFlow Serving's words for the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

from ladle.clients.wire import messages as pb
from ladle.serving.errors import FailedPrecondition, InvalidArgument
from ladle.serving.repository.acceptance import check_labels
from ladle.serving.repository.config import parse_models, read_models
from ladle.serving.repository.folders import ModelConfig, Policy

MODEL = 'name: "m" base_path: "/m" model_platform: "tensorflow"'


def parse(*entries: str) -> list[ModelConfig]:
    text = "model_config_list { " + " ".join(f"config {{ {entry} }}" for entry in entries) + " }"
    return parse_models(text_format.Parse(text, pb.ModelServerConfig()))


def test_models_come_with_policy_and_labels() -> None:
    (model,) = parse(
        MODEL + ' model_version_policy { latest { num_versions: 2 } } version_labels { key: "stable" value: 42 }'
    )
    assert model == ModelConfig("m", Path("/m"), Policy("latest", 2), {"stable": 42})
    assert parse(MODEL + " model_version_policy { all {} }")[0].policy == Policy("all")
    (model,) = parse(MODEL + " model_version_policy { specific { versions: 3 versions: 1 } }")
    assert model.policy == Policy("specific", versions=(3, 1))
    assert parse('name: "m" base_path: "file:///m" model_type: TENSORFLOW')[0].base_path == Path("/m")


def test_an_empty_config_serves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    assert read_models(tmp_path / "empty") == []


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([MODEL, MODEL], "Illegal to list model m multiple times in config list"),
        (['name: "m" base_path: "/m"'], "Illegal setting neither ModelServerConfig::model_type"),
        ([MODEL + " model_type: TENSORFLOW"], "Illegal setting both ModelServerConfig::model_type"),
        (
            ['name: "m" base_path: "/m" model_platform: "caffe"'],
            "Model m requests unsupported platform caffe",
        ),
        (
            ['name: "m" base_path: "m" model_platform: "tensorflow"'],
            r"Expected model m to have an absolute path or URI; got base_path\(\)=m",
        ),
    ],
    ids=["twice", "no platform", "type and platform", "platform", "relative"],
)
def test_an_invalid_config_is_refused(entries: list[str], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        parse(*entries)


def test_a_label_names_an_available_version_or_is_new_and_allowed() -> None:
    def check(version: int, before: int | None = None, allow: bool = False) -> None:
        labels = {"m": {"stable": before}} if before is not None else {}
        check_labels({"m": {"stable": version}}, labels, lambda _, number: number == 1, allow)

    check(1)
    check(2, allow=True)
    check(2, before=2, allow=True)
    for refused in ({"version": 2}, {"version": 2, "before": 1, "allow": True}):
        with pytest.raises(FailedPrecondition, match="Request to assign label to version 2 of model m, which is not"):
            check(**refused)
