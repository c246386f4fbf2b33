"""Reads the server's flags, in TensorFlow Serving's syntax, and writes --help.

`--name=value` or `--name value`. A boolean is `true`, `false` or the bare flag. When a flag is repeated, the last one
counts. The server reports an unknown flag and goes on without it, as TensorFlow Serving does.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from types import SimpleNamespace

from ladle.serving import unused
from ladle.serving.flag_table import FLAGS, Flag, Value
from ladle.serving.runtime.log import FORMATS, json_line

_BY_NAME = {flag.name: flag for flag in FLAGS}

EXAMPLES = """\
Examples:
  python -m ladle.serving --repository=model_repository --port=8500 --rest_api_port=8501
  python -m ladle.serving --repository=model_repository --rest_api_port=8501 --workers=4 --enable_metrics
  python -m ladle.serving --repository=s3://bucket/models --rest_api_port=8501 --cache_dir=/var/cache/models
  python -m ladle.serving --model_config_file=models.config --allow_config_reload --config_root=/models
  python -m ladle.serving --model_config_file=models.config --traffic_config_file=traffic.json --enable_metrics
  python -m ladle.serving --model_name=lenet5 --model_base_path=/models/lenet5 --rest_api_port=8501
  python -m ladle.serving --port 8500 --rest_api_port 8501 --model_config_file models.config
"""


PORTS = ("port", "rest_api_port")


class FlagError(Exception):
    """A known flag has a value that it cannot take. The command prints it with the usage and exits with status 255."""


def parse(arguments: Sequence[str], report: bool = True) -> SimpleNamespace:
    """The value of every flag, by name. FlagError for a bad value.

    report  prints unknown flags, and flags and fields of files without effect, to stderr
    """
    warnings: list[str] = []
    values: dict[str, Value] = {flag.name: flag.default for flag in FLAGS}
    given = set()
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, text = argument.removeprefix("--").partition("=")
        flag = _BY_NAME.get(name.replace("-", "_")) if argument.startswith("--") else None
        if flag is None:
            warnings.append(f"unknown argument: {argument} (skipped; --help lists the known ones)")
            # Its value, if it has one, would be reported as another unknown argument with the same advice.
            if argument.startswith("--") and not equals and rest and not rest[0].startswith("--"):
                warnings.append(f"unknown argument: {rest.pop(0)}")
            continue
        if not equals and isinstance(flag.default, bool):
            text = rest.pop(0) if rest and rest[0] in ("true", "false") else "true"
        elif not equals:
            if not rest:
                raise FlagError(f"--{flag.name} needs a value: --{flag.name}={_kind(flag)}")
            text = rest.pop(0)
        values[flag.name] = _read(flag, text)
        given.add(flag.name)
        if flag.use == "refused" and values[flag.name] != flag.default:
            raise FlagError(f"--{flag.name} is not supported by this server; start it without this flag")
        if flag.use == "no" and values[flag.name] != flag.default:
            warnings.append(f"--{flag.name} has no effect in this server")
    if values["repository"] and "max_num_load_retries" not in given:
        # Versions are renamed into a repository when they are complete: a load that fails once will fail again.
        values["max_num_load_retries"] = 0
    options = SimpleNamespace(**values)
    if options.log_format not in FORMATS:
        raise FlagError(f"got --log_format={options.log_format}; expected {' or '.join(FORMATS)}")
    if report:
        warnings += unused.settings(options, {flag.name: flag.default for flag in FLAGS})
    if report:
        for warning in warnings:
            print(json_line("WARNING", warning) if options.log_format == "json" else warning, file=sys.stderr)
    return options


def _read(flag: Flag, text: str) -> Value:
    if isinstance(flag.default, str):
        return text
    if isinstance(flag.default, bool):  # before int: a bool is an int
        if text in ("true", "false"):
            return text == "true"
    elif isinstance(flag.default, int):
        if re.fullmatch("-?[0-9]{1,18}", text):
            if flag.name in PORTS and not 0 <= int(text) <= 65535:
                raise FlagError(f"got --{flag.name}={text}; expected a port, 0 to 65535")
            return int(text)
    elif re.fullmatch(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]{1,3})?", text, re.ASCII | re.IGNORECASE):
        return float(text)
    raise FlagError(f"got --{flag.name}={text}; expected {_kind(flag)}")


def _kind(flag: Flag) -> str:
    return {bool: "true or false", int: "an integer", float: "a number", str: "text"}[type(flag.default)]


def usage() -> str:
    """The text of --help."""
    lines = [
        "usage: python -m ladle.serving --repository=DIR | --model_base_path=DIR | --model_config_file=FILE [flags]"
    ]
    lines += [
        "",
        "Serves SavedModels and their verified ONNX graphs with TensorFlow Serving's gRPC and REST interfaces.",
    ]
    lines += ["Each flag is shown with its default. Flags marked (ours) do not exist in TensorFlow Serving."]
    group = ""
    for flag in FLAGS:
        if flag.group != group:
            group = flag.group
            lines += ["", f"{group}:"]
        default = str(flag.default).lower() if isinstance(flag.default, bool) else flag.default
        text = flag.help or "no effect here"
        if flag.help and flag.use == "no":
            text += "; no effect here"
        elif flag.use == "refused":
            text += "; not supported"
        lines.append(f"  --{flag.name}={default if default != '' else '...'}")
        lines.append(f"      {text}")
    lines += ["", "  --version", "      print the version of the server and of its engines", "", EXAMPLES.rstrip()]
    return "\n".join(lines)
