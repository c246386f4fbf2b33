"""HandleReloadConfigRequest: replaces the models of a running server, or refuses in TensorFlow Serving's words."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from ladle.clients.wire import messages as pb

X = np.array([[1.0]], np.float32)
LABEL = 'version_labels { key: "%s" value: %d }'
ALL = "model_version_policy { all {} }"
BOTH = "model_version_policy { specific { versions: 1 versions: 2 } }"


def config(*entries: str) -> Any:
    text = "model_config_list { " + " ".join(f"config {{ {entry} }}" for entry in entries) + " }"
    return text_format.Parse(text, pb.ModelServerConfig())


def model(name: str, folder: Path | str, *more: str, platform: str = 'model_platform: "tensorflow"') -> str:
    return " ".join([f'name: "{name}" base_path: "{folder}"', platform, *more])


class Reloader:
    """A server whose models `a` (versions 1 and 2) and `b` (1) can be replaced, and what it answers."""

    def __init__(self, server: Any, asker: Any, root: Path) -> None:
        self.server, self.asker, self.root = server, asker, root

    def __call__(self, *entries: str, metrics: tuple[str, ...] = ()) -> dict[str, int]:
        request = pb.ReloadConfigRequest(config=config(*entries), metric_names=metrics)
        return self.send(request)

    def send(self, request: Any) -> dict[str, int]:
        answer = self.asker._call(self.asker.model.HandleReloadConfigRequest, request)
        assert answer.status.error_code == 0
        return {metric.name: metric.int64_value_increase for metric in answer.metric}

    def states(self, name: str) -> dict[int, str]:
        found: dict[int, str] = self.server.states(name)
        return found


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def started(request: pytest.FixtureRequest, serve: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("root")
    for name, version, offset in (("a", 1, 1), ("a", 2, 2), ("b", 1, 10), ("bad", 1, 0)):
        published = tiny.half_plus(offset).write(root / name, version)
        if name == "bad":
            (published / "model.onnx").write_bytes(b"not what was verified")
    file = root / "models.config"
    file.write_text(str(config(model("a", root / "a"))))
    flags = ["--allow_config_reload", f"--config_root={root}", "--max_num_load_retries=0"]
    return serve("--model_config_file", file, f"--workers={request.param}", *flags, models=["a"]), root


@pytest.fixture
def reload(started: Any, grpc_to: Any) -> Reloader:
    server, root = started
    reloader = Reloader(server, grpc_to(server), root)
    reloader()
    reloader(model("a", root / "a", BOTH))
    # One worker may see it a moment before the other, and a connection goes to either.
    server.wait_for(lambda: all(reloader.states("a") == {1: "AVAILABLE", 2: "AVAILABLE"} for _ in range(8)))
    return reloader


def test_a_reload_answers_when_its_models_are_available(reload: Reloader) -> None:
    a, b = model("a", reload.root / "a", BOTH), model("b", reload.root / "b")
    assert reload(a, b, metrics=("/tensorflow/serving/request_count", "of nothing"))["of nothing"] == 0
    assert reload.asker.predict("b", {"x": X}) == {"y": [[10.5]]}
    reload(a)
    reload.server.wait_for(lambda: reload.states("b") == {1: "END"})
    assert reload.asker.predict("a", {"x": X}) == {"y": [[2.5]]}


def test_a_reload_does_not_wait_for_changed_policies(reload: Reloader, refused: Any) -> None:
    reload(model("a", reload.root / "a", "model_version_policy { specific { versions: 1 } }"))
    reload.server.wait_for(lambda: reload.states("a") == {1: "AVAILABLE", 2: "END"})
    assert reload.asker.predict("a", {"x": X}) == {"y": [[1.5]]}
    reload(model("a", reload.root / "a", ALL))
    reload.server.wait_for(lambda: reload.states("a") == {1: "AVAILABLE", 2: "AVAILABLE"})
    reload()
    reload.server.wait_for(lambda: set(reload.states("a").values()) == {"END"})
    with pytest.raises(refused, match=r"Servable not found for request: Latest\(a\)"):
        reload.asker.predict("a", {"x": X})


@pytest.mark.parametrize(
    ("entries", "code", "message"),
    [
        (["A", "A"], "INVALID_ARGUMENT", "Illegal to list model a multiple times in config list"),
        (
            ['name: "n" base_path: "relative"', "A"],
            "INVALID_ARGUMENT",
            "Expected model n to have an absolute path or URI; got base_path()=relative",
        ),
        (
            ['name: "n" base_path: "ROOT/b"'],
            "INVALID_ARGUMENT",
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform, model name is n",
        ),
        (
            ['name: "a" base_path: "ROOT/a" model_platform: "tensorflow" model_type: TENSORFLOW'],
            "INVALID_ARGUMENT",
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform, model name is a",
        ),
        (
            ['name: "a" base_path: "ROOT/a" model_platform: "caffe"'],
            "INVALID_ARGUMENT",
            "Illegal to change a model's platform. For model a platform was tensorflow and new platform requested is "
            "caffe",
        ),
        (
            ['name: "n" base_path: "ROOT/b" model_platform: "caffe"'],
            "INVALID_ARGUMENT",
            "Model n requests unsupported platform caffe",
        ),
        (
            ['A logging_config { log_collector_config { type: "file" } }'],
            "INVALID_ARGUMENT",
            "No request-logger-creator provided. Model a has a logging_config, but this server logs no requests; "
            "start it with --request_log_dir=DIR, or remove the logging_config",
        ),
        (
            ['A version_labels { key: "l" value: 7 }'],
            "FAILED_PRECONDITION",
            "Request to assign label to version 7 of model a, which is not currently available for inference",
        ),
        (
            ['name: "n" base_path: "/etc" model_platform: "tensorflow"'],
            "PERMISSION_DENIED",
            "The base path of model n is not below the server's --config_root",
        ),
        (
            ['name: "n" base_path: "ROOT/../outside" model_platform: "tensorflow"'],
            "PERMISSION_DENIED",
            "The base path of model n is not below the server's --config_root",
        ),
    ],
    ids=[
        "twice",
        "relative",
        "no platform",
        "both",
        "changed",
        "platform",
        "logging",
        "label",
        "outside",
        "climbs out",
    ],
)
def test_a_refused_config_changes_nothing(
    reload: Reloader, refused: Any, entries: list[str], code: str, message: str
) -> None:
    named = model("a", reload.root / "a", BOTH)
    filled = [entry.replace("A", named, 1) if entry.startswith("A") else entry for entry in entries]
    with pytest.raises(refused) as error:
        reload(*(entry.replace("ROOT", str(reload.root)) for entry in filled))
    assert (error.value.code, error.value.message) == (code, message)
    assert reload.states("a") == {1: "AVAILABLE", 2: "AVAILABLE"}
    assert reload.asker.predict("a", {"x": X}) == {"y": [[2.5]]}


def test_faults_are_reported_in_tensorflow_servings_order(reload: Reloader, refused: Any) -> None:
    twice = model("a", "relative", platform='model_platform: "caffe"')
    for entries, said in (
        ([twice, twice], "multiple times"),
        ([twice], "absolute path"),
        ([model("a", reload.root / "a", LABEL % ("l", 9), platform='model_platform: "caffe"')], "change a model's"),
        ([model("n", reload.root / "b", LABEL % ("l", 9), platform='model_platform: "caffe"')], "assign label"),
    ):
        with pytest.raises(refused, match=said):
            reload(*entries)


@pytest.mark.parametrize("text", ["", "custom_model_config {}"], ids=["nothing", "custom"])
def test_only_a_model_config_list_is_accepted(reload: Reloader, refused: Any, text: str) -> None:
    request = pb.ReloadConfigRequest(config=text_format.Parse(text, pb.ModelServerConfig()))
    with pytest.raises(refused) as error:
        reload.send(request)
    assert error.value.code == "INVALID_ARGUMENT"
    assert error.value.message == (
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
    )


def test_a_model_that_fails_is_named_and_the_others_are_served(reload: Reloader, refused: Any) -> None:
    a, b = model("a", reload.root / "a", BOTH), model("b", reload.root / "b")
    with pytest.raises(refused) as error:
        reload(a, b, model("bad", reload.root / "bad"))
    assert error.value.code == "UNKNOWN"
    assert error.value.message.startswith(
        "1 model(s) did not become available: {{{name: bad version: 1} due to error: DATA_LOSS: model.onnx is not"
    )
    assert reload.asker.predict("b", {"x": X}) == {"y": [[10.5]]}
    with pytest.raises(refused, match="its base path is missing or holds no version"):
        reload(a, model("late", reload.root / "late"))


def test_labels_follow_available_versions_and_are_replaced_as_a_whole(reload: Reloader, refused: Any) -> None:
    folder = reload.root / "a"
    reload(model("a", folder, BOTH, LABEL % ("old", 1), LABEL % ("new", 2)))
    assert reload.asker.predict("a", {"x": X}, label="old") == {"y": [[1.5]]}
    assert reload.asker.predict("a", {"x": X}, label="new") == {"y": [[2.5]]}
    with pytest.raises(refused, match="assign label to version 3"):
        reload(model("a", folder, BOTH, LABEL % ("old", 3)))
    assert reload.asker.predict("a", {"x": X}, label="new") == {"y": [[2.5]]}
    reload(model("a", folder, BOTH, LABEL % ("old", 2)))
    assert reload.asker.predict("a", {"x": X}, label="old") == {"y": [[2.5]]}
    with pytest.raises(refused, match="Unrecognized servable version label: new"):
        reload.asker.predict("a", {"x": X}, label="new")


def test_concurrent_reloads_leave_one_whole_configuration(reload: Reloader, refused: Any) -> None:
    a, b = model("a", reload.root / "a", BOTH), model("b", reload.root / "b")
    codes = set()

    def call(*entries: str) -> None:
        try:
            reload(*entries)
        except refused as error:
            codes.add(error.code)

    callers = [threading.Thread(target=call, args=([a, b] if i % 2 else [a])) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert codes <= {"ABORTED"}  # one that added b was overtaken by one without it
    reload(a, b)
    assert reload.asker.predict("b", {"x": X}) == {"y": [[10.5]]}
    assert reload.asker.predict("a", {"x": X}) == {"y": [[2.5]]}


def test_reload_is_off_unless_allowed(tiny_server: Any, grpc_to: Any, refused: Any) -> None:
    asker = grpc_to(tiny_server)
    with pytest.raises(refused) as error:
        asker._call(asker.model.HandleReloadConfigRequest, pb.ReloadConfigRequest(config=config()))
    assert error.value.code == "PERMISSION_DENIED"
    assert "--allow_config_reload" in error.value.message


def test_a_new_label_may_name_a_missing_version_where_that_is_allowed(
    serve: Any, tiny: Any, repository: Path, grpc_to: Any, refused: Any
) -> None:
    tiny.half_plus(1).write(repository / "a", 1)
    file = repository / "models.config"
    file.write_text(str(config(model("a", repository / "a", LABEL % ("canary", 2)))))
    flags = ["--allow_config_reload", f"--config_root={repository}", "--allow_version_labels_for_unavailable_models"]
    server = serve("--model_config_file", file, *flags, models=["a"])
    reload = Reloader(server, grpc_to(server), repository)
    with pytest.raises(refused, match=r"Servable not found for request: Specific\(a, 2\)"):
        reload.asker.predict("a", {"x": X}, label="canary")
    with pytest.raises(refused, match="Request to assign label to version 3 of model a"):
        reload(model("a", repository / "a", LABEL % ("canary", 3)))
    reload(model("a", repository / "a", LABEL % ("canary", 2), LABEL % ("other", 9)))
    tiny.half_plus(2).write(repository / "a", 2)
    server.wait_for_state("a", 2, "AVAILABLE")
    assert reload.asker.predict("a", {"x": X}, label="canary") == {"y": [[2.5]]}
