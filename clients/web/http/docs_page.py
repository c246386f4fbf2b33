"""The OpenAPI document as a page, without anything from another host: `templates/docs.html` in the app's own look."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

from flask import render_template
from markupsafe import Markup

_FORMATS = {"binary": "file", "base64-image": "base64 of an image"}
_ASKED = "application/json"


def page(document: dict[str, Any], base: str) -> str:
    """The page of an OpenAPI document. `base`: the gateway's address with a slash at its end, for the examples."""
    info = document["info"]
    return render_template(
        "docs.html",
        about=info["description"],
        version=info["version"],
        openapi=document["openapi"],
        has_keys=any("security" in operation for _, _, operation in _operations(document)),
        groups=[(tag["name"], _tagged(document, tag["name"], base)) for tag in document["tags"]],
    )


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _tagged(document: dict[str, Any], tag: str, base: str) -> list[dict[str, Any]]:
    return [
        _entry(document, path, method, operation, base)
        for path, method, operation in _operations(document)
        if tag in operation["tags"]
    ]


def _entry(document: dict[str, Any], path: str, method: str, operation: dict[str, Any], base: str) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    example = content.get(_ASKED, {}).get("example")
    verb = path.rpartition(":")[2] if ":" in path else ""
    details = [
        _parameters(operation["parameters"]),
        *_bodies(content),
        *_responses(document, operation["responses"]),
    ]
    return {
        "id": operation["operationId"],
        "method": method,
        "path": path,
        "short": f":{verb}" if verb else path.removeprefix("/api/v1"),
        "summary": operation["summary"],
        "description": operation.get("description", ""),
        "curl": _curl(base + path.removeprefix("/").replace("{name}", "NAME").replace("{file}", "FILE"), example),
        "example": example,
        "details": Markup().join(details),
    }


def _curl(url: str, example: Any) -> str:
    if example is None:
        return f"curl -s {shlex.quote(url)}"
    body = shlex.quote(json.dumps(example))
    return f"curl -s {shlex.quote(url)} \\\n  -H 'Content-Type: application/json' \\\n  -d {body}"


def _parameters(parameters: list[dict[str, Any]]) -> Markup:
    rows = [
        Markup("<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>").format(
            each["name"], each["in"], readable(each["schema"]), each.get("description", "")
        )
        for each in parameters
    ]
    if not rows:
        return Markup()
    region = Markup('<div class="scroll" tabindex="0" role="region" aria-label="Parameters">')
    head = region + Markup(
        "<table><thead><tr><th>Parameter</th><th>In</th><th>Type</th><th>Meaning</th></tr></thead><tbody>"
    )
    return head + Markup().join(rows) + Markup("</tbody></table></div>")


def _bodies(content: dict[str, Any]) -> Iterator[Markup]:
    described = [(kind, media["schema"]) for kind, media in content.items()]
    raw = [kind for kind, schema in described if schema.get("type") == "string"]
    for kind, schema in described:
        if kind not in raw:
            yield Markup(
                '<p>Body <code>{}</code></p><pre tabindex="0" role="region" aria-label="Body">{}</pre>'
            ).format(kind, readable(schema))
    if raw:
        yield Markup("<p>Body: the bytes as {}</p>").format(
            Markup(", ").join(Markup("<code>{}</code>").format(kind) for kind in raw)
        )


def _responses(document: dict[str, Any], responses: dict[str, Any]) -> Iterator[Markup]:
    for kind, media in responses["200"]["content"].items():
        if media["schema"].get("type") == "string":
            yield Markup("<p>Response <code>{}</code></p>").format(kind)
        else:
            yield Markup(
                '<p>Response <code>{}</code></p><pre tabindex="0" role="region" aria-label="Response">{}</pre>'
            ).format(kind, readable(media["schema"]))
    rows = [
        Markup("<tr><td>{}</td><td>{}</td></tr>").format(
            status, document["components"]["responses"][status]["description"]
        )
        for status in responses
        if status != "200"
    ]
    if rows:
        yield Markup("<details><summary>Errors</summary><table><tbody>{}</tbody></table></details>").format(
            Markup().join(rows)
        )


def readable(schema: dict[str, Any], indent: str = "") -> str:
    """A schema in short: `{image: base64 of an image, top?: integer 1..1000 = 10}`."""
    if "anyOf" in schema:
        return " | ".join(readable(each, indent) for each in schema["anyOf"])
    if "enum" in schema:
        text = " | ".join(json.dumps(choice) for choice in schema["enum"])
    elif schema.get("type") == "array":
        text = f"[{readable(schema['items'], indent)}, …]"
    elif schema.get("type") == "object":
        deeper = indent + "  "
        rows = [
            f"{deeper}{name}{'' if name in schema.get('required', ()) else '?'}: {readable(each, deeper)}"
            for name, each in schema.get("properties", {}).items()
        ]
        text = "{\n" + "\n".join(rows) + f"\n{indent}}}" if rows else "{…}"
    else:
        text = _FORMATS.get(schema.get("format", "")) or schema.get("type", "any")
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is not None and high is not None:
            text += f" {low}..{high}"
    return text + (f" = {json.dumps(schema['default'])}" if "default" in schema else "")
