"""The part of JSON Schema that the gateway uses: functions that make schemas, and a check of values against them.

Requests are checked against the schemas that the OpenAPI document shows, so the two cannot differ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ladle.clients.web.http.problems import Problem

Schema = dict[str, Any]

_TYPES = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
}
MAX_EXACT = 2**53
"""Up to here a float holds every whole number exactly."""
_SHOWN = 40
"""Characters of a refused value that an error repeats."""


def obj(properties: Mapping[str, Schema], required: tuple[str, ...] | None = None, closed: bool = True) -> Schema:
    """An object. By default every property is required and no other is allowed."""
    schema: Schema = {"type": "object", "properties": dict(properties)}
    needed = list(properties) if required is None else list(required)
    if needed:
        schema["required"] = needed
    return {**schema, "additionalProperties": False} if closed else schema


def array(items: Schema, low: int = 0, high: int | None = None, about: str = "") -> Schema:
    schema: Schema = {"type": "array", "items": items}
    if low:
        schema["minItems"] = low
    if high is not None:
        schema["maxItems"] = high
    return _described(schema, about)


def integer(low: int | None = None, high: int | None = None, default: int | None = None, about: str = "") -> Schema:
    return _described(_ranged("integer", low, high, default), about)


def number(
    low: float | None = None, high: float | None = None, default: float | None = None, about: str = ""
) -> Schema:
    return _described(_ranged("number", low, high, default), about)


def string(about: str = "", **keywords: Any) -> Schema:
    return _described({"type": "string", **keywords}, about)


def boolean(default: bool | None = None, about: str = "") -> Schema:
    return _described({"type": "boolean"} | ({} if default is None else {"default": default}), about)


def one_of(*choices: str, default: str | None = None, about: str = "") -> Schema:
    return _described(
        {"type": "string", "enum": list(choices)} | ({} if default is None else {"default": default}), about
    )


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def check(value: Any, schema: Schema, what: str) -> None:
    """Problem 400: the structure differs from the schema's; 413: too many or too long; 422: a value out of range."""
    if "anyOf" in schema:
        _check_any(value, schema["anyOf"], what)
        return
    kind = schema.get("type")
    if kind is not None and not _is(value, kind):
        raise Problem(400, f"{what}: got {shown(value)}; expected {_TYPES[kind]}.")
    if "enum" in schema and value not in schema["enum"]:
        raise Problem(422, f"{what}: got {shown(value)}; expected {' or '.join(schema['enum'])}.")
    if kind == "object":
        _check_object(value, schema, what)
    elif kind == "array":
        _check_length(len(value), schema, "Items", what, "items")
        for position, item in enumerate(value):
            check(item, schema["items"], f"{what}[{position}]")
    elif kind == "string":
        _check_length(len(value), schema, "Length", what, "characters")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            raise Problem(422, f"{what}: got {shown(value)}; expected {schema.get('description', schema['pattern'])}.")
    elif kind in ("number", "integer"):
        _check_range(value, schema, what)


def parsed(text: str, schema: Schema, what: str) -> Any:
    """The value of an option that is text in a query or a form; checked."""
    value: Any = text
    kind = schema.get("type")
    if kind == "boolean":
        value = {"true": True, "false": False}.get(text, text)
    elif kind == "integer" and re.fullmatch(r"-?[0-9]{1,20}", text):
        value = int(text)
    elif kind == "number" and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", text):
        value = float(text)
    check(value, schema, what)
    return value


def exact(value: Any, schema: Schema) -> Any:
    """A checked value; a whole number as int, even if JSON wrote it as 3.0."""
    return int(value) if schema.get("type") == "integer" else value


def shown(value: Any) -> str:
    """A refused value in a few characters, for an error."""
    if isinstance(value, str):
        return f'"{value[:_SHOWN]}…"' if len(value) > _SHOWN else f'"{value}"'
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else repr(value)
    assert text is not None
    return text[:_SHOWN] + "…" if len(text) > _SHOWN else text


def _check_any(value: Any, schemas: list[Schema], what: str) -> None:
    refusals = []
    if isinstance(value, dict):  # an object is meant for the alternatives whose required members it has
        needed = [each["required"][0] for each in schemas if each.get("required")]
        schemas = [each for each in schemas if set(each.get("required", ())) <= set(value)]
        if not schemas and needed:
            raise Problem(400, f"{what}: got none of {', '.join(needed)}; expected one of them.")
    for schema in schemas:
        try:
            check(value, schema, what)
        except Problem as problem:
            refusals.append(problem)
        else:
            return
    # The highest status says most: a value out of range (422) rather than a wrong type (400).
    raise max(refusals, key=lambda problem: problem.status)


def _check_object(value: dict[str, Any], schema: Schema, what: str) -> None:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            raise Problem(400, f"{what}: got no {name}; expected {', '.join(properties)}.")
    for name, item in value.items():
        if name in properties:
            check(item, properties[name], name if what == "The body" else f"{what}.{name}")
        elif schema.get("additionalProperties") is False:
            raise Problem(400, f"{what}: got the unknown member {shown(name)}; expected {', '.join(properties)}.")


def _check_length(size: int, schema: Schema, keyword: str, what: str, unit: str) -> None:
    if size < schema.get(f"min{keyword}", 0):
        raise Problem(422, f"{what}: got {size} {unit}; expected at least {schema[f'min{keyword}']}.")
    if size > schema.get(f"max{keyword}", size):
        raise Problem(413, f"{what}: got {size} {unit}; expected at most {schema[f'max{keyword}']}.")


def _check_range(value: float, schema: Schema, what: str) -> None:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    if not low <= value <= high or not abs(value) < math.inf:
        expected = f"{low} to {high}" if abs(low) < math.inf and abs(high) < math.inf else "a finite number"
        raise Problem(422, f"{what}: got {shown(value)}; expected {expected}.")


def _is(value: Any, kind: str) -> bool:
    if kind == "null":
        return value is None
    if kind == "number":  # in Python true and false are numbers too
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "integer":
        if isinstance(value, float):  # 3.0 is a whole number in JSON
            return value.is_integer() and abs(value) <= MAX_EXACT
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"object": dict, "array": list, "string": str, "boolean": bool}[kind])


def _ranged(kind: str, low: float | None, high: float | None, default: float | None) -> Schema:
    keywords = {"minimum": low, "maximum": high, "default": default}
    return {"type": kind, **{key: value for key, value in keywords.items() if value is not None}}


def _described(schema: Schema, about: str) -> Schema:
    return {**schema, "description": about} if about else schema
