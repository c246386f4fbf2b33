"""`ladle status`: models with versions and states, once or continuously."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ladle.clients.drawing import terminal
from ladle.clients.errors import DeadlineExceeded, NotFound, Unavailable, Unimplemented
from ladle.clients.json_output import dumps, print_json
from ladle.clients.library.client import Client
from ladle.clients.wire.versions import find_versions

STATE_STYLES = {"AVAILABLE": "green", "LOADING": "yellow", "START": "yellow", "END": "red", "NOT_SERVED": "dim"}
Row = dict[str, Any]


def status(client: Client, given: argparse.Namespace) -> None:
    """Print versions and states of models, the newest version first."""
    if given.watch:
        _watch(client, given)
        return
    rows = look(client, given)
    if given.json:
        print_json(rows)
    else:
        print(_table(rows))


def look(client: Client, given: argparse.Namespace) -> list[Row]:
    """A row for each version of each model. NotFound: a named model is not served."""
    names = given.names
    try:
        found = client.models(names or None)
    except Unimplemented as error:
        names = models_in(given.repository)
        if not names:
            raise FileNotFoundError(
                f"{client.transport.address} cannot list its models, and {given.repository} holds none; "
                "name a model: ladle status NAME"
            ) from error
        found = client.models(names)
    rows: list[Row] = []
    for name in [*found, *(name for name in names if name not in found)]:
        if name not in found and given.names:
            client.status(name)  # raises NotFound with the server's reason
        if not found.get(name):
            rows.append(_row(name, None, "NOT_SERVED", "the server does not have it"))
        rows += [_row(name, s.version, s.state, s.error_message or None) for s in found.get(name, ())]
    for name, traffic in client.traffic(sorted(found)).items():
        for row in rows:
            row |= {"traffic": traffic} if row["model"] == name else {}
    order = {name: place for place, name in enumerate(names or sorted(found))}
    return sorted(rows, key=lambda row: order.get(row["model"], 0))


def _row(name: str, version: int | None, state: str, error: str | None) -> Row:
    return {"model": name, "version": version, "state": state, "error": error}


def models_in(repository: Path) -> list[str]:
    """The folders of a repository that hold a version."""
    if not repository.is_dir():
        return []
    return sorted(child.name for child in repository.iterdir() if find_versions(child))


def _table(rows: list[Row]) -> str:
    if not rows:
        return "no models"
    cells = [(row["model"], str(row["version"] or "-"), row["state"], row["error"] or "") for row in rows]
    tables = [terminal.table([("MODEL", "VERSION", "STATE", ""), *cells], STATE_STYLES)]
    tables += _traffic({row["model"]: row["traffic"] for row in rows if "traffic" in row})
    return "\n\n".join(tables)


def _traffic(told: Mapping[str, Any]) -> list[str]:
    """Tables of splits, of shadows and of their outputs, by model as `Client.traffic` has them; none that is empty."""
    arms: list[tuple[str, ...]] = [("MODEL", "SPLIT", "ARM", "VERSION", "SHARE", "REQUESTS", "ERRORS", "MEAN MS")]
    shadows: list[tuple[str, ...]] = [
        ("MODEL", "SHADOW", "VERSION", "SHARE", "SAME", "DIFFERENT", "FAILED", "DROPPED", "MEAN MS")
    ]
    outputs: list[tuple[str, ...]] = [("MODEL", "SHADOW", "OUTPUT", "SAME", "DIFFERENT", "LARGEST DIFFERENCE")]
    for model, traffic in told.items():
        for split, each in traffic["split"].items():
            keys: Sequence[str] = ("arm", "version", "percent", "requests", "errors", "mean_ms")
            arms += [(model, split, *_cells(arm, keys)) for arm in each]
        if "shadow" in traffic:
            shadow = traffic["shadow"]
            keys = ("to", "version", "percent", "same", "different", "failed", "dropped", "shadow_ms")
            shadows.append((model, *_cells(shadow, keys)))
            keys = ("name", "same", "different", "largest_difference")
            outputs += [(model, shadow["to"], *_cells(output, keys)) for output in shadow["outputs"]]
    return [terminal.table(rows) for rows in (arms, shadows, outputs) if len(rows) > 1]


def _cells(row: Row, keys: Sequence[str]) -> list[str]:
    return [f"{row[key]:g} %" if key == "percent" else _text(row[key]) for key in keys]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if isinstance(value, float) else str(value)


def _watch(client: Client, given: argparse.Namespace) -> None:
    """Print until Ctrl-C: in a terminal one table that is redrawn, otherwise a table for each change."""
    live = not given.json and terminal.is_live(sys.stdout)
    screen = terminal.Screen(sys.stdout) if live else None
    last: Any = None
    try:
        while True:
            rows, fault = _attempt(client, given)
            now = time.strftime("%H:%M:%S")
            if given.json:
                print(dumps({"time": time.time(), "models": rows, "error": fault}), flush=True)
            elif screen is not None:
                heading = terminal.paint(f"{client.transport.address}  {now}  Ctrl-C to stop", "dim")
                screen.show(f"{heading}\n{terminal.paint(fault, 'red') if fault else _table(rows)}")
            elif (rows, fault) != last:
                last = (rows, fault)
                print(f"{now}\n{terminal.plain(fault) if fault else _table(rows)}", flush=True)
            time.sleep(given.interval)
    except KeyboardInterrupt:
        return
    finally:
        if screen is not None:
            screen.close()  # shows the cursor again


def _attempt(client: Client, given: argparse.Namespace) -> tuple[list[Row], str | None]:
    try:
        return look(client, given), None
    except (Unavailable, DeadlineExceeded, NotFound) as error:  # the server or the model may come up later
        return [], str(error)
