"""No flag and no field of a file is taken without effect and without a word: each counts, is refused or is reported."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from ladle.clients.wire import messages as pb
from ladle.serving import flags, unused
from ladle.serving.errors import InvalidArgument
from ladle.serving.flag_table import FLAGS, Flag
from ladle.serving.repository.config import parse_models
from ladle.serving.servables.batching_parameters import Batching, parse_batching
from tests.conftest import ROOT

SERVING = [path for path in (ROOT / "serving").rglob("*.py") if path.name not in ("flags.py", "unused.py")]


def attributes(*paths: Path) -> set[str]:
    """The names after a dot that files read: `options.port` -> port."""
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text())))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


READ = attributes(*SERVING)
OTHER = {bool: lambda value: not value, int: lambda value: value + 7, float: lambda value: value + 7.5}


def changed(flag: Flag) -> str:
    """The flag with a value that is not its default."""
    value = OTHER.get(type(flag.default), lambda value: f"{value}x")(flag.default)
    return f"--{flag.name}={str(value).lower() if isinstance(value, bool) else value}"


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_every_flag_is_read_or_reported(flag: Flag, capsys: pytest.CaptureFixture[str]) -> None:
    if flag.use == "no":
        flags.parse([changed(flag)])
        assert capsys.readouterr().err == f"--{flag.name} has no effect in this server\n"
    elif flag.use == "refused":
        with pytest.raises(flags.FlagError):
            flags.parse([changed(flag)])
    else:
        assert flag.name in READ


def said_of(arguments: list[str]) -> list[str]:
    return unused.settings(flags.parse(arguments, report=False), {flag.name: flag.default for flag in FLAGS})


REPOSITORY, FILE, FOLDER = "--repository=r", "--model_config_file=f", "--model_base_path=/b"
REST = "--rest_api_port=1"
IDLE: dict[str, tuple[list[str], list[str]]] = {
    "nothing": ([REPOSITORY], []),
    "one model": ([FOLDER, "--model_name=m", "--wait_for_models", "--missing_base_path_stops_poll"], []),
    "name and file": ([FILE, "--model_name=m", FOLDER], ["model_name", "model_base_path"]),
    "poll without file": ([FOLDER, "--model_config_file_poll_wait_seconds=1"], ["model_config_file_poll_wait_seconds"]),
    "poll": ([FILE, "--model_config_file_poll_wait_seconds=1"], []),
    "root without reload": ([FILE, "--config_root=/"], ["config_root"]),
    "root": ([FILE, "--config_root=/", "--allow_config_reload"], []),
    "pattern": ([FILE, "--model_name_pattern=a"], ["model_name_pattern"]),
    "repository": (
        [REPOSITORY, "--missing_base_path_stops_poll", "--wait_for_models"],
        ["missing_base_path_stops_poll", "wait_for_models"],
    ),
    "labels": (
        [REPOSITORY, "--allow_version_labels_for_unavailable_models"],
        ["allow_version_labels_for_unavailable_models"],
    ),
    "no REST": (
        [REPOSITORY, "--rest_api_timeout_in_ms=1", "--rest_api_enable_cors_support", "--max_json_depth=1"],
        ["rest_api_timeout_in_ms", "rest_api_enable_cors_support", "max_json_depth"],
    ),
    "metrics without REST": (
        [REPOSITORY, "--enable_metrics", "--keep_alive_seconds=1"],
        ["keep_alive_seconds", "enable_metrics"],
    ),
    "metrics": ([REPOSITORY, REST, "--enable_metrics", "--keep_alive_seconds=1"], []),
    "metrics twice": ([REPOSITORY, REST, "--enable_metrics", "--monitoring_config_file=f"], ["enable_metrics"]),
    "path of no metrics": ([REPOSITORY, REST, "--metrics_path=/metrics"], ["metrics_path"]),
    "path of the metrics": ([REPOSITORY, REST, "--enable_metrics", "--metrics_path=/metrics"], []),
    "batching of versions": (
        [REPOSITORY, "--enable_per_model_batching_parameters"],
        ["enable_per_model_batching_parameters"],
    ),
    "workers": ([REPOSITORY, "--workers=2", "--supervise=false"], ["supervise"]),
    "one worker": ([REPOSITORY, "--supervise=false"], []),
    "REST that may be missing": ([REPOSITORY, "--allow_missing_rest_api"], ["allow_missing_rest_api"]),
    "TensorFlow Lite": ([REPOSITORY, "--num_tflite_pools=99"], ["num_tflite_pools"]),
    "onnx": (
        [REPOSITORY, "--engine=onnx", "--prefer_tflite_model", "--tensorflow_inter_op_parallelism=2"],
        ["tensorflow_inter_op_parallelism", "prefer_tflite_model"],
    ),
    "warm-up": (
        [REPOSITORY, "--enable_model_warmup=false", "--num_request_iterations_for_warmup=3"],
        ["num_request_iterations_for_warmup"],
    ),
    "retries": ([REPOSITORY, "--load_retry_interval_micros=1"], ["load_retry_interval_micros"]),
}


@pytest.mark.parametrize(("arguments", "idle"), IDLE.values(), ids=IDLE)
def test_flags_that_need_another_are_reported(arguments: list[str], idle: list[str]) -> None:
    said = said_of(arguments)
    assert [sentence.partition(" ")[0] for sentence in said] == [f"--{name}" for name in idle]
    assert all(" has no effect " in sentence for sentence in said)


def leaves(descriptor: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The fields of a message, those of its messages included, as ways from the top."""
    for field in descriptor.fields:
        inner = field.message_type
        if (
            inner is not None
            and inner.fields
            and not inner.GetOptions().map_entry
            and inner.file.package != "google.protobuf"
        ):
            yield from leaves(inner, (*before, field))
        else:
            yield (*before, field)


def only(message: Any, way: tuple[Any, ...]) -> Any:
    """Set one field, to something that is not its default, in a message; returns the message."""
    at = message
    for field in way[:-1]:
        inner = getattr(at, field.name)
        at = (inner[0] if len(inner) else inner.add()) if field.is_repeated else inner
    field = way[-1]
    value: Any = "text" if field.type == field.TYPE_STRING else 7
    if field.message_type is None:
        if field.is_repeated:
            getattr(at, field.name).append(value)
        else:
            setattr(at, field.name, bool(value) if field.type == field.TYPE_BOOL else value)
    elif field.message_type.GetOptions().map_entry:
        getattr(at, field.name)["text"] = 7
    elif field.message_type.name == "Any" or not field.message_type.fields:
        getattr(at, field.name).SetInParent()
    else:  # a wrapped number, text or truth value
        inner = getattr(at, field.name)
        kind = type(inner.value)
        inner.value = {bool: True, str: "text"}.get(kind, 7)
    return message


def named(ways: Iterator[tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    return {".".join(field.name for field in way): way for way in ways}


MODELS = named(leaves(pb.ModelServerConfig.DESCRIPTOR))
BASE = 'model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" } }'
REFUSED = {
    "model_type": "both",
    "model_platform": "unsupported platform",
    "logging_config": "logging_config",
    "base_path": "absolute",
}


@pytest.mark.parametrize("way", MODELS.values(), ids=MODELS)
def test_every_field_of_a_model_server_config_counts_or_is_refused(way: tuple[Any, ...]) -> None:
    before = parse_models(text_format.Parse(BASE, pb.ModelServerConfig()))
    message = only(text_format.Parse(BASE, pb.ModelServerConfig()), way)
    names = [field.name for field in way]
    if names[0] == "custom_model_config":
        with pytest.raises(InvalidArgument, match="got a custom_model_config, which is not supported"):
            parse_models(message)
    elif reason := next((REFUSED[name] for name in names if name in REFUSED), None):
        with pytest.raises(InvalidArgument, match=reason):
            parse_models(message)
    else:
        assert parse_models(message) != before


BATCHING = named(leaves(pb.BatchingParameters.DESCRIPTOR))


@pytest.mark.parametrize("way", BATCHING.values(), ids=BATCHING)
def test_every_batching_parameter_counts_or_is_reported(way: tuple[Any, ...]) -> None:
    (field,) = way
    batching = parse_batching(only(pb.BatchingParameters(), way))
    assert getattr(batching, field.name) != getattr(parse_batching(pb.BatchingParameters()), field.name)
    said = [*batching.unused(False), *batching.unused_of_version()]
    assert bool(said) == (field.name in ("batch_timeout_micros", "max_execution_batch_size", "num_batch_threads"))
    assert all(sentence.startswith(field.name) for sentence in said)


def test_every_batching_parameter_is_read_or_reported() -> None:
    assert {field.name for field in fields(Batching)} - READ == set()


def test_server_parameters_that_versions_override_are_reported() -> None:
    assert Batching(num_batch_threads=3).unused(True) == []
    (said,) = Batching(max_batch_size=3).unused(True)
    assert said.startswith("with --enable_per_model_batching_parameters, only num_batch_threads and")
    assert Batching(max_execution_batch_size=3, enable_large_batch_splitting=True).unused(False) == []


FILES = {
    "batching_parameters_file": ("batch_timeout_micros { value: 9 }", "batch_timeout_micros has no effect"),
    "monitoring_config_file": ('prometheus_config { path: "/m" }', "it turns no metrics on"),
    "ssl_config_file": (
        'server_key: "k" server_cert: "c" custom_ca: "a"',
        "custom_ca has no effect without client_verify",
    ),
}


@pytest.mark.parametrize("flag", FILES)
def test_fields_of_files_are_reported(flag: str, tmp_path: Path) -> None:
    text, words = FILES[flag]
    (tmp_path / "file").write_text(text)
    arguments = [REPOSITORY, REST, "--enable_batching", f"--{flag}={tmp_path / 'file'}"]
    (said,) = said_of(arguments)
    assert said.startswith(f"{tmp_path / 'file'}: {words}")
    (tmp_path / "file").write_text("no such field")  # the server refuses it by itself
    assert said_of(arguments) == []


def test_monitoring_and_tls_read_all_their_fields() -> None:
    read = attributes(
        ROOT / "serving" / "server.py", ROOT / "serving" / "runtime" / "tls.py", ROOT / "serving" / "unused.py"
    )
    for message in (pb.MonitoringConfig, pb.SSLConfig):
        for way in leaves(message.DESCRIPTOR):
            # server_key and server_cert are read by name, in a loop
            assert way[-1].name in read | {"server_key", "server_cert"}


def test_the_command_says_it_at_the_start_and_refuses_to_log_requests(tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text(
        BASE.replace('"tensorflow"', '"tensorflow" logging_config { sampling_config { sampling_rate: 1 } }')
    )
    command = [sys.executable, "-m", "ladle.serving", f"--model_config_file={config}", "--enable_metrics"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 255
    assert "--enable_metrics has no effect without --rest_api_port" in done.stderr
    assert (
        "INVALID_ARGUMENT: No request-logger-creator provided. Model m has a logging_config, but this server logs no "
        "requests; start it with --request_log_dir=DIR, or remove the logging_config" in done.stdout
    )
