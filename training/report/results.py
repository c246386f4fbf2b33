"""Write the pages of results from the model cards of trained versions.

`python -m ladle.training.report.results` reads the newest version of each model in a repository and keeps one record
for each network, preset and data set (or folder of the user's own) in `docs/results.json`. From the records it writes
the table between the two markers of README.md, the page `docs/results.md` with its pictures, and `figures.json`, which
comes with Ladle. Metrics on generated data are marked as synthetic. Nothing else can put a number into these files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ladle.training.evaluate.headline import shown, trivial
from ladle.training.report import recorded
from ladle.training.report.recorded import Record
from ladle.training.store import publish

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
HEADER = "| family | networks | task | figures on the test split | weights of each |\n"
RULE = "|---|---|---|---|---|\n"
PUBLIC_FILES = {"own_cifar10", "own_cifar100", "own_mnist"}
"""Data sets that everybody can have as files of this layout: their results are no private ones."""


class Family(NamedTuple):
    """A row of the README's table. `shown` names each result in it: network, data set, preset ("": none)."""

    name: str
    networks: tuple[str, ...]
    task: str
    shown: tuple[tuple[str, str, str], ...]


FAMILIES = (
    Family(
        "By hand and dense",
        (
            *("linear_regression", "logistic_regression", "himmelblau", "filters", "perceptron", "backprop_mlp"),
            *("tensor_mlp", "mlp", "custom_dense", "house_prices"),
        ),
        "fit, classify, minimise",
        (("mlp", "fashion_mnist", "full"), ("house_prices", "boston_housing", "full")),
    ),
    Family(
        "Convolutional",
        ("lenet5", "alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "googlenet"),
        "classify images",
        (("lenet5", "fashion_mnist", "full"), ("vgg16", "fashion_mnist", "quick")),
    ),
    Family(
        "Residual and densely connected",
        ("resnet18", "resnet34", "resnet50", "densenet", "densenet121"),
        "classify images",
        (("resnet18", "fashion_mnist", "full"), ("densenet", "fashion_mnist", "quick")),
    ),
    Family(
        "Pre-trained on ImageNet",
        ("efficientnet_lite0", "transfer"),
        "classify photographs",
        (("transfer", "own_cifar10", "full"), ("transfer", "fashion_mnist", "quick")),
    ),
    Family(
        "Words and recurrent",
        ("sentiment_bow", "sentiment_rnn_cell", "sentiment_rnn", "sentiment_gru", "sentiment_lstm"),
        "judge film reviews",
        (("sentiment_lstm", "imdb", "quick"), ("sentiment_gru", "imdb", "quick")),
    ),
    Family(
        "Auto-encoders",
        ("autoencoder", "denoising_autoencoder", "dropout_autoencoder", "adversarial_autoencoder", "vae"),
        "reconstruct, mend, generate",
        (("vae", "fashion_mnist", "full"),),
    ),
    Family(
        "Adversarial",
        ("dcgan", "wgan", "wgan_gp", "toy_gan"),
        "generate images",
        (("wgan_gp", "fashion_mnist", "full"), ("dcgan", "fashion_mnist", "quick")),
    ),
    Family(
        "Fully convolutional",
        ("fcn32s", "fcn16s", "fcn8s", "unet"),
        "segment images",
        (("unet", "brain_slices", "full"), ("unet", "nuclei", "full"), ("fcn8s", "nuclei", "full")),
    ),
)
"""The README's table: every network once, and results chosen to stand for each family. docs/results.md has all."""


def records(repository: Path) -> list[Record]:
    """A record for the newest version of each model in `repository`."""
    found = []
    for model in sorted(child for child in repository.iterdir() if child.is_dir()):
        versions = list(publish.versions(model).values())
        card = versions[-1] / "assets.extra" / "card.json" if versions else None
        if card is not None and card.is_file():
            read = json.loads(card.read_text())
            if read["metrics"].get("test"):  # a converted SavedModel has no metrics
                found.append({**record(read), "saved_bytes": saved_bytes(versions[-1])})
    return found


def record(card: dict[str, Any]) -> Record:
    """The record of one card."""
    test, graphs = card["metrics"]["test"], card["onnx"].values()
    return {
        "network": card["network"],
        "task": card["task"],
        "preset": card["preset"],
        "data": card["data"]["name"],
        "source": card["data"]["source"],
        "synthetic": card["data"]["synthetic"],
        "splits": card["data"]["splits"],
        "examples": card["data"]["splits"].get("test", 0),
        "metrics": {key: value for key, value in test.items() if isinstance(value, int | float)},
        "more": {key: value for key, value in test.items() if not isinstance(value, int | float)},
        "validation": card["metrics"].get("validation", {}),
        "epochs": card["epochs"],
        "seconds": round(card["training_seconds"]),
        "machine": card["machine"],
        "parameters": card["parameters"],
        "parity": max((graph["parity"]["max_abs"] for graph in graphs), default=None),
        "onnx_bytes": sum(graph["size_bytes"] for graph in graphs),
        "config": card["config"],
        "created": card["created"],
        "seed": card["seed"],
        **{name: card[name] for name in ("precision", "initial") if name in card},
        **({"folds": card["metrics"]["folds"]} if "folds" in card["metrics"] else {}),
    }


def saved_bytes(version: Path) -> int:
    """Size of a version's SavedModel: graph, variables and assets."""
    files = [version / "saved_model.pb", *(version / "variables").rglob("*"), *(version / "assets").rglob("*")]
    return sum(path.stat().st_size for path in files if path.is_file())


def merged(old: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """Old and new records, sorted; a new one replaces an old one with the same key."""
    by_key = {recorded.key(entry): entry for entry in [*old, *new]}
    return [by_key[k] for k in sorted(by_key)]


def with_baselines(entry: Record, known: dict[str, dict[str, float]] | None = None) -> Record:
    """The record with what the simplest methods reach on its test split, if it lacks that.

    They need the data alone, not the network: a run from before they were measured is not trained again for them. A
    record stays as it is if its network generates, or if its data are the user's own, cannot be had, or are split
    otherwise today.

    known  what was found for others: runs of one task on the same data need one measurement
    """
    if (
        "baselines" in entry.get("more", {})
        or recorded.own(entry)
        or not entry.get("config")
        or not entry.get("splits")
    ):
        return entry
    from ladle import models
    from ladle.training import data
    from ladle.training.data.pipeline import prepare
    from ladle.training.evaluate import baselines
    from ladle.training.loop import config

    told = entry["config"]
    deciding = {name: told.get(name) for name in ("data", "seed", "latent_dim", "train_limit", "classes")}
    place = json.dumps([entry["task"], entry["data"], entry["splits"], deciding], sort_keys=True)
    if known and place in known:
        return {**entry, "more": {**entry["more"], "baselines": known[place]}}
    network = models.get(entry["network"])
    settings = config.compose(network, None, config.recorded(network, entry["config"]))
    try:
        dataset = data.load(settings.data, seed=settings.seed, synthetic=entry["synthetic"])
    except data.DataError as error:
        print(f"{entry['network']} on {entry['data']}: no baselines: {error}", file=sys.stderr)
        return entry
    prepared = prepare(network, settings, dataset)
    sizes = {name: len(getattr(prepared, name)) for name in ("train", "validation", "test")}
    if (dataset.name, sizes) != (entry["data"], entry["splits"]):
        return entry
    found = baselines.measure(prepared, prepared.test)
    if not found:
        return entry
    if known is not None:
        known[place] = found
    return {**entry, "more": {**entry["more"], "baselines": found}}


def row(family: Family, entries: Iterable[Record]) -> str:
    """One line of the README's table, with the results that were measured."""
    public = [entry for entry in entries if not recorded.own(entry) or entry["data"] in PUBLIC_FILES]
    found = {(entry["network"], entry["data"], entry["preset"] or ""): entry for entry in public}
    measured = [found[place] for place in family.shown if place in found]
    cells = [
        family.name,
        " ".join(f"`{name}`" for name in family.networks),
        family.task,
        "; ".join(map(_figure, measured)),
        "; ".join(f"{e['parameters']:,}" if e.get("parameters") else "?" for e in measured),
    ]
    return f"| {' | '.join(cells)} |\n"


def _figure(entry: Record) -> str:
    """'`mlp` accuracy 0.8965 (fashion_mnist; majority class 0.1)'."""
    beside = trivial(entry["metrics"], entry.get("more", {}).get("baselines"), entry.get("folds"))
    on = f"own files, {recorded.own(entry)}" if recorded.own(entry) else recorded.data(entry)
    where = f"{on}; {beside}" if beside else on
    return f"`{entry['network']}` {shown(entry['metrics'], entry.get('folds'))} ({where})"


def with_table(readme: str, entries: Sequence[Record]) -> str:
    """The README with the table between its markers. ValueError: a marker is missing."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"got a README without {BEGIN} … {END}; expected both; put them where the table belongs")
    rows = "".join(row(family, entries) for family in FAMILIES)
    return f"{before}{BEGIN}\n{HEADER}{RULE}{rows}{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 1 failed."""
    parser = argparse.ArgumentParser(
        prog="python -m ladle.training.report.results",
        description="Write the metrics of trained versions into docs/results.json, docs/results.md and README.md.",
        epilog="example:\n  python -m ladle.training.report.results --repository model_repository",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="default: %(default)s")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="default: %(default)s")
    parser.add_argument("--records", type=Path, default=Path("docs/results.json"), help="default: %(default)s")
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"), help="default: %(default)s")
    parser.add_argument("--figures", type=Path, default=recorded.FILE, help="default: %(default)s")
    parser.add_argument(
        "--baselines", action="store_true", help="measure the baselines that records lack; loads their data sets"
    )
    parser.add_argument(
        "--hours", action="store_true", help="say how long the classifiers that were not run would take; builds them"
    )
    arguments = parser.parse_args(argv)
    from ladle.training.report import results_page

    try:
        old = json.loads(arguments.records.read_text()) if arguments.records.exists() else []
        new = records(arguments.repository)
        entries = merged(old, new)
        if arguments.baselines:
            known: dict[str, dict[str, float]] = {}
            entries = [with_baselines(entry, known) for entry in entries]
        pictures = arguments.page.with_suffix("")
        entries = recorded.pictured(entries, results_page.write_pictures(arguments.repository, new, pictures))
        arguments.readme.write_text(with_table(arguments.readme.read_text(), entries))
        arguments.records.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
        _page(arguments.page, entries, results_page.pictures_in(pictures), arguments.figures, arguments.hours)
    except (OSError, ValueError) as error:
        print(f"ladle.training.report.results: {error}", file=sys.stderr)
        return 1
    print(f"{len(FAMILIES)} rows in {arguments.readme}, {len(entries)} in {arguments.page}")
    return 0


def _page(path: Path, entries: list[Record], pictures: dict[str, str], figures: Path, with_hours: bool) -> None:
    from ladle.training.report import effort, results_page

    networks = results_page.registered()
    usual = {name: str(entry.presets.get("quick", {}).get("data", "")) for name, entry in networks.items()}
    leads = {name: entry.leads for name, entry in networks.items() if entry.leads != "quick"}
    figures.write_text(json.dumps(recorded.chosen(entries, usual, leads), indent=1) + "\n")
    full = [entry for entry in entries if entry["preset"] == "full" and entry["network"] in networks]
    ran = {entry["network"] for entry in full if results_page.is_whole(entry, networks[entry["network"]])}
    hours = effort.hours(entries, [name for name in networks if name not in ran]) if with_hours else {}
    path.write_text(results_page.page(entries, networks, pictures, hours), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
