"""The README's table of figures, made from the model cards of trained versions.

`python -m training.results` reads the newest version of each model in a repository, keeps one record for each network,
data set and preset in `docs/results.json`, and writes the table between the two markers of README.md. A figure on
generated data is marked as such; a figure nobody measured here has no way into the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
HEADER = "| network | preset | data | split | figure | epochs | trained in | machine | ONNX parity | ONNX size |\n"
RULE = "|---|---|---|---|---|---|---|---|---|---|\n"

Record = dict[str, Any]


def records(repository: Path) -> list[Record]:
    """A record for the newest version of each model in `repository`."""
    found = []
    for model in sorted(child for child in repository.iterdir() if child.is_dir()):
        versions = sorted((child for child in model.iterdir() if child.name.isdigit()), key=lambda v: int(v.name))
        card = versions[-1] / "assets.extra" / "card.json" if versions else None
        if card is not None and card.is_file():
            read = json.loads(card.read_text())
            if read["metrics"].get("test"):  # none: converted from somebody's SavedModel, or never measured
                found.append(record(read))
    return found


def record(card: dict[str, Any]) -> Record:
    """What the table says of one card."""
    return {
        "network": card["network"],
        "preset": card["preset"],
        "data": card["data"]["name"],
        "synthetic": card["data"]["synthetic"],
        "examples": card["data"]["splits"].get("test", 0),
        "metrics": {key: value for key, value in card["metrics"]["test"].items() if isinstance(value, int | float)},
        "epochs": card["epochs"],
        "seconds": round(card["training_seconds"]),
        "machine": card["machine"],
        "parity": max((graph["parity"]["max_abs"] for graph in card["onnx"].values()), default=None),
        "onnx_bytes": sum(graph["size_bytes"] for graph in card["onnx"].values()),
        "created": card["created"],
        "seed": card["seed"],
    }


def key(entry: Record) -> tuple[str, str, str]:
    """What makes a record one of its kind: a newer one with the same key takes its place."""
    return (entry["network"], entry["data"], entry["preset"] or "")


def merged(old: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """Both, the new ones in place of the old ones of their kind, sorted."""
    by_key = {key(entry): entry for entry in [*old, *new]}
    return [by_key[k] for k in sorted(by_key)]


def row(entry: Record) -> str:
    """One line of the table."""
    data = f"{entry['data']} (**synthetic**)" if entry["synthetic"] else entry["data"]
    figures = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in entry["metrics"].items())
    minutes, seconds = divmod(int(entry["seconds"]), 60)
    parity = "—" if entry["parity"] is None else f"{entry['parity']:.0e}"
    cells = [
        f"`{entry['network']}`",
        entry["preset"] or "own",
        data,
        f"test, {entry['examples']:,}",
        figures,
        str(entry["epochs"]),
        f"{minutes}:{seconds:02d}",
        entry["machine"],
        parity,
        f"{entry['onnx_bytes'] / 1e6:.1f} MB",
    ]
    return f"| {' | '.join(cells)} |\n"


def with_table(readme: str, entries: Iterable[Record]) -> str:
    """The README with the table between its markers; ValueError when it has none."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{HEADER}{RULE}{''.join(row(entry) for entry in entries)}{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.results",
        description="Write the figures of the trained versions into docs/results.json and README.md.",
        epilog="example:\n  python -m training.results --repository model_repository",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="default: %(default)s")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="default: %(default)s")
    parser.add_argument("--records", type=Path, default=Path("docs/results.json"), help="default: %(default)s")
    arguments = parser.parse_args(argv)
    try:
        old = json.loads(arguments.records.read_text()) if arguments.records.exists() else []
        entries = merged(old, records(arguments.repository))
        arguments.readme.write_text(with_table(arguments.readme.read_text(), entries))
        arguments.records.write_text(json.dumps(entries, indent=1) + "\n")
    except (OSError, ValueError) as error:
        print(f"training.results: {error}", file=sys.stderr)
        return 1
    print(f"{len(entries)} rows in {arguments.readme}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
