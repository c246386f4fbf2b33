"""The traffic file: what it may say, and what is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ladle.serving import flags
from ladle.serving.errors import InvalidArgument, StartError
from ladle.serving.repository.folders import ModelConfig, Policy
from ladle.serving.repository.traffic import Arm, ModelTraffic, Shadow, check, read_traffic
from ladle.serving.server import Server
from ladle.serving.workers.supervisor import Supervisor

LABELS = {"half": {"stable": 1, "canary": 2}}
MODELS = {
    "half": ModelConfig("half", Path("/half"), Policy("specific", versions=(1, 2)), LABELS["half"]),
    "single": ModelConfig("single", Path("/single"), Policy("specific", versions=(1,))),
    "newest": ModelConfig("newest", Path("/newest")),
}


def written(folder: Path, document: Any) -> Path:
    path = folder / "traffic.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def refusal(folder: Path, document: Any) -> str:
    path = written(folder, document)
    with pytest.raises(InvalidArgument) as caught:
        check(read_traffic(path), MODELS, LABELS)
    return caught.value.message.removeprefix(f"{path}: ").removeprefix(f"the traffic file {path} ")


def test_splits_and_shadows_are_read(tmp_path: Path) -> None:
    shadow = {"to": "newest/3", "percent": 10, "outputs": ["y"], "tolerance": 0.5}
    document = {
        "half": {"split": {"default": {"stable": 99.5, "2": 0.5}, "canary": {"canary": 100}}, "shadow": "single/1"},
        "single": {"shadow": shadow},
        "newest": {},
    }
    traffic = read_traffic(written(tmp_path, document))
    check(traffic, MODELS, LABELS)
    half = ModelTraffic(
        {"default": (Arm("stable", 99.5), Arm("2", 0.5)), "canary": (Arm("canary", 100.0),)}, Shadow("single", "1")
    )
    assert traffic == {
        "half": half,
        "single": ModelTraffic({}, Shadow("newest", "3", 10.0, ("y",), 0.5)),
        "newest": ModelTraffic(),
    }


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("{", "is not JSON: Expecting property name"),
        ('{"half": {}, "half": {}}', "is not JSON: 'half' is given twice in one object"),
        ("[" * 100_000, "is not JSON: "),
        (" " * (2**20 + 1), "has more than 1048576 bytes; expected a small JSON object"),
        ([], 'the file: got []; expected an object: {"MODEL": {"split": …, "shadow": …}}'),
        ({"half": 5}, 'half: got 5; expected an object: {"split": …, "shadow": …}'),
        ({"half": {"splits": {}}}, 'half: got "splits"; expected split or shadow'),
        (
            {"half": {"split": {"default": {"stable": 90, "canary": 5}}}},
            'half: the split "default" adds up to 95 %; expected 100',
        ),
        ({"half": {"split": {"default": {}}}}, 'half: the split "default" adds up to 0 %; expected 100'),
        (
            {"half": {"split": {"default": {"stable": 110, "canary": -10}}}},
            'half: the split "default": stable: got 110; expected a percentage from 0 to 100',
        ),
        (
            {"half": {"split": {"default": {"stable": "95"}}}},
            'half: the split "default": stable: got "95"; expected a percentage from 0 to 100',
        ),
        ('{"half": {"split": {"default": {"stable": NaN}}}}', 'half: the split "default": stable: got NaN; expected'),
        ({"haf": {}}, 'haf: there is no model "haf" in models.config; did you mean half?'),
        (
            {"half": {"split": {"default": {"canari": 100}}}},
            'half: the split "default": half has no version label "canari"; did you mean canary?',
        ),
        (
            {"single": {"split": {"default": {"stable": 100}}}},
            'single: the split "default": single has no version label "stable"; models.config gives it none',
        ),
        (
            {"half": {"split": {"default": {"3": 100}}}},
            'half: the split "default": models.config does not load version 3 of half; it loads 1, 2',
        ),
        ({"half": {"shadow": "canary"}}, 'half: shadow: got "canary"; expected "MODEL/LABEL", such as "half/canary"'),
        ({"half": {"shadow": {"percent": 5}}}, 'half: shadow: got null; expected "MODEL/LABEL"'),
        ({"half": {"shadow": {"to": "half/2", "percent": 101}}}, "half: shadow: got 101; expected a percentage"),
        (
            {"half": {"shadow": {"to": "half/2", "tolerance": -1}}},
            "half: shadow: got the tolerance -1; expected a number from 0 on",
        ),
        (
            {"half": {"shadow": {"to": "half/2", "outputs": "y"}}},
            'half: shadow: got the outputs "y"; expected a list of names, ["class_id"]',
        ),
        ({"half": {"shadow": {"to": "half/2", "share": 5}}}, 'half: shadow: got "share"; expected to or percent or'),
        ({"half": {"shadow": "whole/1"}}, 'half: shadow: there is no model "whole" in models.config'),
        ({"half": {"shadow": "half/next"}}, 'half: shadow: half has no version label "next"; expected one of canary,'),
        (
            {"half": {"split": {"default": {"stable": 100, "canary": 0}}, "shadow": "half/1"}},
            "half: shadow: half/1 is version 1, which answers the requests itself; name another version",
        ),
        ({"single": {"shadow": "single/1"}}, "single: shadow: single/1 is version 1, which answers the requests"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_in_one_sentence(tmp_path: Path, document: Any, expected: str) -> None:
    message = refusal(tmp_path, document)
    assert message.startswith(expected)
    assert "\n" not in message


@pytest.mark.parametrize("kind", [Server, Supervisor], ids=["one_process", "workers"])
def test_a_server_does_not_start_with_traffic_that_it_cannot_serve(tmp_path: Path, kind: Any) -> None:
    entry = f'name: "half" base_path: "{tmp_path}" model_platform: "tensorflow"'
    (tmp_path / "models.config").write_text(f"model_config_list {{ config {{ {entry} }} }}")

    def start(*given: str) -> str:
        arguments = [*given, *(["--workers=2"] if kind is Supervisor else [])]
        with pytest.raises(StartError) as caught:
            kind(flags.parse(arguments), *([[]] if kind is Supervisor else []))
        return str(caught.value)

    models = f"--model_config_file={tmp_path / 'models.config'}"
    traffic = f"--traffic_config_file={written(tmp_path, {'half': {'split': {'default': {'1': 95, '2': 4}}}})}"
    assert start(models, traffic).endswith('half: the split "default" adds up to 99 %; expected 100')
    missing = f"--traffic_config_file={tmp_path / 'none.json'}"
    assert start(models, missing).endswith("none.json cannot be read: No such file or directory")
    assert "--traffic_config_file needs --model_config_file" in start(f"--repository={tmp_path}", traffic)
