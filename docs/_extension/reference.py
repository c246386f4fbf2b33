"""Markdown of the reference, made from the code: parsers, flags, docstrings, the OpenAPI document, the model card."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from card_reference import card as card
from card_reference import steps as steps
from markup import block, code, defined, docstring, entries_of, paragraph, plain, table

# Command line


@functools.cache
def _verbs() -> Mapping[str, tuple[str, argparse.ArgumentParser | None]]:
    from ladle import command

    return command.parsers()


def commands() -> str:
    """Every verb with its options and examples."""
    from ladle import command

    parts = []
    for group, verbs in command.GROUPS.items():
        parts.append(f"## {group.capitalize()}")
        for name in verbs:
            summary, parser = _verbs()[name]
            parts += [f"### ladle {name}", *_verb(name, summary, parser)]
    return "\n\n".join(parts)


def _verb(name: str, summary: str, parser: argparse.ArgumentParser | None) -> Iterable[str]:
    if name == "serve":
        yield plain(summary[0].upper() + summary[1:]) + "."
        yield (
            "`ladle serve` takes the flags of `python -m ladle.serving`, with dashes or underscores; "
            "[](server-flags.md) lists them. Unlike that command it serves `model_repository` unless it is told "
            "something else, and opens port 8501 for REST."
        )
        return
    if parser is None:
        raise ValueError(f"ladle {name}: its packages are not installed; install the extra `docs`")
    yield plain(parser.description or summary)
    own, server, has_networks = [], [], False
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        actions = [action for action in actions if not isinstance(action, argparse._HelpAction)]
        if group.title and group.title.startswith("options of "):
            has_networks = True
        elif group.title and group.title.startswith("the server"):
            server = actions
        else:
            own += actions
    if has_networks:
        yield "Each network adds its own options; [](networks.md) lists them."
    if own:
        yield defined((_names(action), _help(action, parser)) for action in own)
    if server:
        names = ", ".join(code(action.option_strings[-1]) for action in server)
        yield f"[Options of every question](#options-of-every-question): {names}."
    examples = re.search(r"(?s)(?im:^examples?:)\n(.*)", parser.epilog or "")
    if examples:
        yield block(textwrap.dedent(examples[1]), "text")


def server_options() -> str:
    """What every verb that asks a server takes."""
    parser = _verbs()["classify"][1]
    assert parser is not None
    group = next(group for group in parser._action_groups if (group.title or "").startswith("the server"))
    return defined((_names(action), _help(action, parser)) for action in group._group_actions)


def _names(action: argparse.Action) -> str:
    value = ""
    if action.nargs != 0 and not isinstance(action, argparse.BooleanOptionalAction):
        choices = "|".join(map(str, action.choices)) if action.choices else ""
        metavar = action.metavar if isinstance(action.metavar, str) else choices or action.dest.upper()
        value = f" {metavar}"
    if not action.option_strings:
        return code(str(action.metavar or action.dest) + ("…" if action.nargs in ("*", "+") else ""))
    return (
        ", ".join(code(name) for name in action.option_strings[:-1])
        + (", " if len(action.option_strings) > 1 else "")
        + code(action.option_strings[-1] + value)
    )


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    return plain(" ".join(parser._get_formatter()._expand_help(action).split())) if action.help else ""


# Networks


def networks() -> str:
    """Every network: what it is, its recipes and the options that are its own."""
    from ladle import models

    shared = {field.name for field in dataclasses.fields(models.Config)}
    parts = [
        "## Options of every network",
        _options(models.Config(), (field.name for field in dataclasses.fields(models.Config))),
    ]
    for name in models.names():
        network = models.get(name)
        facts = [
            ("task", network.task),
            ("weights", f"{network.parameters:,}"),
            ("data", code(network.config.data)),
            ("described in", plain(network.source)),
            *([("published figure", plain(network.aim))] if network.aim else []),
        ]
        own = [field.name for field in dataclasses.fields(network.config) if field.name not in shared]
        recipes = [
            [code(preset), ", ".join(code(f"{_option(key)} {_value(value)}") for key, value in overrides.items())]
            for preset, overrides in network.presets.items()
        ]
        parts += [
            f"## {name}",
            plain(network.summary),
            "\n".join(f"- {title}: {said}" for title, said in facts),
            *([table(["preset", "sets"], recipes)] if recipes else []),
            _options(network.config, own),
        ]
    return "\n\n".join(parts)


def _options(config: Any, names: Iterable[str]) -> str:
    fields = {field.name: field for field in dataclasses.fields(config)}
    rows = [
        [code(_option(name)), code(_value(getattr(config, name))), plain(fields[name].metadata.get("help", ""))]
        for name in names
    ]
    return table(["option", "default", "meaning"], rows) if rows else ""


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value)) or "none"
    return str(value) if value != "" else "none"


# Server


OF_CORES = {"num_tflite_pools": "cores", "rest_api_num_threads": "4 × cores", "grpc_max_threads": "4 × cores"}
"""Defaults that depend on the machine."""


def server_flags() -> str:
    """Every flag of the model server."""
    from ladle.serving.flag_table import FLAGS

    groups: dict[str, list[tuple[str, str]]] = {}
    for flag in FLAGS:
        default = str(flag.default).lower() if isinstance(flag.default, bool) else str(flag.default)
        if flag.name in OF_CORES:
            default = OF_CORES[flag.name]  # the value of the machine that builds the site would mislead
        effect = {"no": "no effect here", "refused": "not supported: the server does not start with it"}.get(flag.use)
        said = "; ".join(filter(None, [flag.help, effect]))
        term = code(f"--{flag.name}") + (f", default {code(default)}" if default else "")
        groups.setdefault(flag.group, []).append((term, plain(said)))
    return "\n\n".join(f"## {title}\n\n{defined(entries)}" for title, entries in groups.items())


# Python

RESULTS = ("Classification", "Sentiment", "Segmentation", "Descent")


def client() -> str:
    """`Client` with its methods."""
    return _class(importlib.import_module("ladle").Client, "ladle")


def async_client() -> str:
    """The methods of `AsyncClient` that `Client` has not."""
    import ladle

    ours = {name for name in vars(ladle.AsyncClient) if not name.startswith("_")}
    theirs = {name for name in vars(ladle.Client) if not name.startswith("_")}
    if ours - {"aclose"} != theirs - {"aclose"}:
        raise ValueError(
            f"AsyncClient and Client differ in {sorted(ours ^ theirs)}; say so in docs/reference/client.md"
        )
    return f"{docstring(ladle.AsyncClient)}"


def results() -> str:
    """What the methods answer."""
    found = _home_of(RESULTS[0])
    return "\n\n".join(_class(getattr(found, name), found.__name__) for name in RESULTS)


def server_facts() -> str:
    """What `status`, `models` and `metadata` answer."""
    found = _home_of("Metadata")
    kinds = [
        kind
        for _, kind in inspect.getmembers(found, dataclasses.is_dataclass)
        if inspect.isclass(kind) and kind.__module__ == found.__name__
    ]
    return "\n\n".join(_class(kind, found.__name__) for kind in kinds)


def _home_of(name: str) -> ModuleType:
    """The module of a class that the client's module uses."""
    import ladle

    kind = vars(sys.modules[ladle.Client.__module__])[name]
    return sys.modules[kind.__module__]


def errors() -> str:
    """The client's errors."""
    found = importlib.import_module("ladle.clients.errors")
    kinds = [found.LadleError, *found.LadleError.__subclasses__()]
    statuses: dict[str, list[str]] = {}
    for status, kind in found._BY_STATUS.items():
        statuses.setdefault(kind.__name__, []).append(str(status))
    rows = [
        [
            code(kind.__name__),
            code(kind.code),
            ", ".join(statuses.get(kind.__name__, [])),
            plain(" ".join((kind.__doc__ or "").split())) if "__doc__" in vars(kind) else "",
        ]
        for kind in kinds
    ]
    return table(["error", "gRPC code", "HTTP status", "when"], rows)


def _class(kind: type, module: str) -> str:
    members = []
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            members.append(f"````{{py:property}} {name}\n{docstring(member)}\n````")
        elif callable(member) and inspect.isfunction(member):
            members.append(f"````{{py:method}} {name}{_signature(member, method=True)}\n{docstring(member)}\n````")
    about = docstring(kind)
    if dataclasses.is_dataclass(kind):
        said = dict(_documented(kind))
        names = {field.name for field in dataclasses.fields(kind)}
        if names <= set(said):  # the fields are said one by one: each meaning goes to its field
            about = "\n\n".join(
                paragraph(text)
                for text in re.split(r"\n\s*\n", inspect.getdoc(kind) or "")
                if not {name for name, _ in entries_of(text)} & names
            )
        fields = "\n".join(
            f"````{{py:attribute}} {field.name}\n:type: {_type(field.type)}\n\n{plain(said.get(field.name, ''))}\n````"
            for field in dataclasses.fields(kind)
        )
        signature = ""
        members.insert(0, fields)
    else:
        signature = _signature(kind.__init__)
    body = "\n\n".join([about, *members])
    return f"`````{{py:class}} {kind.__name__}{signature}\n:module: {module}\n\n{body}\n`````"


def _signature(function: Any, method: bool = False) -> str:
    signature = inspect.signature(function)
    parameters = [p for name, p in signature.parameters.items() if name != "self"]
    # `**which: Unpack[Which]` is what a type checker reads; people read the options themselves.
    spread = [p for p in parameters if p.kind is p.VAR_KEYWORD]
    if spread:
        parameters = [p for p in parameters if p not in spread]
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            for name, kind in (("version", "int | None"), ("label", "str | None"), ("timeout_s", "float | None"))
        ]
    shown = signature.replace(
        parameters=[p.replace(annotation=_annotation(p.annotation)) for p in parameters],
        return_annotation=_annotation(signature.return_annotation) if method else inspect.Signature.empty,
    )
    return str(shown)


class _Shown:
    """An annotation that `str(signature)` writes as it stands in the code."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _annotation(annotation: Any) -> Any:
    empty = inspect.Parameter.empty
    return annotation if annotation is empty else _Shown(_type(annotation))


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


# Gateway


def gateway_api() -> str:
    """Every operation of the gateway, from its OpenAPI document."""
    document = _openapi()
    parts = []
    for tag in document["tags"]:
        parts.append(f"## {tag['name'].capitalize()}")
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    parts += [f"### {method.upper()} {path}", *_operation(document, operation)]
    return "\n\n".join(parts)


@functools.cache
def _openapi() -> dict[str, Any]:
    from ladle.clients.web.app import create_app
    from ladle.clients.web.config import Config

    answer = create_app(Config(models=("lenet5",))).test_client().get("/openapi.json")
    return dict(json.loads(answer.get_data()))


def _operation(document: dict[str, Any], operation: dict[str, Any]) -> Iterable[str]:
    from ladle.clients.web.http.docs_page import readable

    yield plain(f"{operation['summary']}. {operation.get('description', '')}".strip())
    if operation["parameters"]:
        yield table(
            ["parameter", "in", "form", "meaning"],
            [
                [code(each["name"]), each["in"], code(readable(each["schema"])), plain(each.get("description", ""))]
                for each in operation["parameters"]
            ],
        )
    bodies = {kind: media["schema"] for kind, media in operation.get("requestBody", {}).get("content", {}).items()}
    for kind, schema in bodies.items():
        if schema.get("type") != "string":
            yield f"Takes {code(kind)}:\n\n{block(readable(schema))}"
    raw = [code(kind) for kind, schema in bodies.items() if schema.get("type") == "string"]
    if raw:
        yield f"Takes the bytes themselves as {', '.join(raw)}."
    for kind, media in operation["responses"]["200"]["content"].items():
        if media["schema"].get("type") == "string":
            yield f"Answers {code(kind)}."
        else:
            yield f"Answers {code(kind)}:\n\n{block(readable(media['schema']))}"
    faults = [status for status in operation["responses"] if status != "200"]
    if faults:
        yield f"Errors: {', '.join(f'[{status}](#errors)' for status in faults)}."


def gateway_errors() -> str:
    """The statuses of the gateway's errors."""
    responses = _openapi()["components"]["responses"]
    return table(["status", "meaning"], [[status, plain(found["description"])] for status, found in responses.items()])


def gateway_settings() -> str:
    """What can be set, with its variable for gunicorn."""
    from ladle.clients.web.config import PREFIX, Config

    said = dict(_documented(Config))
    entries = []
    for field in dataclasses.fields(Config):
        default = (
            "" if field.default is None or field.default in ((), "") else f", default {code(_value(field.default))}"
        )
        entries.append((code(field.name) + f" ({code(PREFIX + field.name.upper())}){default}", plain(said[field.name])))
    return defined(entries)


def _documented(kind: type) -> Iterable[tuple[str, str]]:
    """The lines `name  meaning` of a docstring."""
    paragraphs = re.split(r"\n\s*\n", inspect.getdoc(kind) or "")
    return [(name, said) for text in paragraphs for names, said in entries_of(text) for name in names.split(", ")]
