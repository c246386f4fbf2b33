"""The OpenAPI document as a page: plain HTML without scripts and without anything from another host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 0.875rem/1.5 ui-monospace, monospace; }
pre { background: var(--soft); padding: 0.75rem; overflow-x: auto; border-radius: 6px; }
section { border-top: 1px solid var(--line); padding: 0.5rem 0 1rem; }
h2 { margin: 2rem 0 0.5rem; } h3 { margin: 0.75rem 0 0.25rem; font-size: 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 1rem 0.25rem 0; border-bottom: 1px solid var(--line); }
.method { font-weight: 700; }
a { color: inherit; }
"""
_FORMATS = {"binary": "file", "base64-image": "base64 of an image"}
_PAGE = Markup(
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,'
    ' initial-scale=1"><title>{title}</title><link rel="stylesheet" href="docs/style.css"></head><body><main><h1>'
    '{title}</h1><p>{about} <a href="openapi.json">OpenAPI {openapi} document</a>.</p>{body}</main>'
    "</body></html>"
)


def page(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document."""
    body = Markup().join(_tagged(document, tag["name"]) for tag in document["tags"])
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    return _PAGE.format(title=title, about=info["description"], openapi=document["openapi"], body=body)


def _tagged(document: dict[str, Any], tag: str) -> Markup:
    parts = [Markup("<h2>{}</h2>").format(tag.capitalize())]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                parts.append(_operation(document, method, path, operation))
    return Markup().join(parts)


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Markup:
    head = Markup('<section id="{}"><h3><code><span class="method">{}</span> {}</code></h3><p>{}. {}</p>').format(
        operation["operationId"], method.upper(), path, operation["summary"], operation.get("description", "")
    )
    return Markup().join(
        [
            head,
            _parameters(operation["parameters"]),
            *_bodies(operation.get("requestBody", {}).get("content", {})),
            *_responses(document, operation["responses"]),
            Markup("</section>"),
        ]
    )


def _parameters(parameters: list[dict[str, Any]]) -> Markup:
    rows = [
        Markup("<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>").format(
            each["name"], each["in"], readable(each["schema"]), each.get("description", "")
        )
        for each in parameters
    ]
    if not rows:
        return Markup()
    head = Markup("<table><thead><tr><th>Parameter</th><th>In</th><th>Type</th><th>Meaning</th></tr></thead><tbody>")
    return head + Markup().join(rows) + Markup("</tbody></table>")


def _bodies(content: dict[str, Any]) -> Iterator[Markup]:
    described = [(kind, media["schema"]) for kind, media in content.items()]
    raw = [kind for kind, schema in described if schema.get("type") == "string"]
    for kind, schema in described:
        if kind not in raw:
            yield Markup("<p>Body <code>{}</code></p><pre>{}</pre>").format(kind, readable(schema))
    if raw:
        yield Markup("<p>Body: the bytes as {}</p>").format(
            Markup(", ").join(Markup("<code>{}</code>").format(kind) for kind in raw)
        )


def _responses(document: dict[str, Any], responses: dict[str, Any]) -> Iterator[Markup]:
    for kind, media in responses["200"]["content"].items():
        if media["schema"].get("type") == "string":
            yield Markup("<p>Response <code>{}</code></p>").format(kind)
        else:
            yield Markup("<p>Response <code>{}</code></p><pre>{}</pre>").format(kind, readable(media["schema"]))
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
