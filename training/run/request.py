"""What is to be trained and how, and its data made ready."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladle import models
from ladle.models import Network
from ladle.training import data
from ladle.training.data.pipeline import Prepared, prepare
from ladle.training.errors import UsageError
from ladle.training.evaluate import functions
from ladle.training.loop import config

SHAPE = ("height", "width", "channels")


@dataclass(frozen=True)
class Request:
    """What is to be trained and how; `ladle train` has an option for each.

    overrides             options of the network's config
    file                  a model card or JSON object with options; `overrides` go over it
    data_path             the user's own files, in the layout of the config's data set
    base_weights          the user's own file of the published weights that the network begins with
    initial_weights       a file of Keras, a version or a run whose weights the whole network begins with
    synthetic             generated data in place of real ones
    synthetic_if_missing  the same, but only when the real set cannot be had
    resume                go on with an interrupted run of the same description
    xla                   compile the steps with XLA
    report                draw the pictures of the run
    """

    preset: str | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    file: Path | None = None
    data_path: Path | None = None
    base_weights: Path | None = None
    initial_weights: Path | None = None
    synthetic: bool = False
    synthetic_if_missing: bool = False
    repository: Path = Path("model_repository")
    runs: Path = Path("runs")
    resume: bool = True
    precision: str = "float32"
    xla: bool = False
    report: bool = True


def get(name: str) -> Network:
    """The network of that name; UsageError names the nearest ones."""
    try:
        return models.get(name)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from error


def load(network: Network, request: Request, assets: models.Assets | None = None) -> Prepared:
    """The network's data set, ready. With `assets`, words and labels are those and not the data set's.

    UsageError when an option asks for images of another shape than the data set has.
    """
    file = config.read(request.file, network) if request.file else {}
    wanted = config.compose(network, request.preset, file, request.overrides)
    asked = {**(network.presets[request.preset] if request.preset else {}), **file, **request.overrides}
    taken = {*data.options(wanted.data, synthetic=request.synthetic)}
    if request.synthetic_if_missing:
        taken |= {*data.options(wanted.data, synthetic=True)}
    shape = {name: asked[name] for name in SHAPE if name in asked}
    # A network that scales images itself says which size those of all sizes get.
    scaled = {"size": getattr(wanted, "size", None)} if "size" in taken else {}
    dataset = data.load(
        wanted.data,
        path=request.data_path,
        synthetic=request.synthetic,
        allow_synthetic=request.synthetic_if_missing,
        seed=wanted.seed,
        progress=data.Terminal(),
        **{name: value for name, value in shape.items() if name in taken},
        **scaled,
    )
    prepared = prepare(network, wanted, dataset, assets)
    for name, value in shape.items():
        if getattr(prepared.config, name) != value:
            found = getattr(prepared.config, name)
            raise UsageError(f"{network.name}: {name} is {value}, but {dataset.name} has {found}; leave the option out")
    return prepared


def of_version(version: Path, data_path: Path | None, synthetic: bool) -> Prepared:
    """The data set that an exported version was trained on, ready for it.

    Own files are needed again when it was trained on those, UsageError without; a model of generated data is measured
    on such.
    """
    card = functions.read_card(version)
    network = get(card["network"])
    synthetic = synthetic or (generated(card["data"]) and data_path is None)
    if not synthetic:
        ask_for_own(str(version), card["data"], data_path)
    request = Request(file=version / "assets.extra" / "card.json", data_path=data_path, synthetic=synthetic)
    return load(network, request, functions.read_assets(version))


def generated(trained_on: Mapping[str, Any]) -> bool:
    """Whether data were drawn for the run; those that somebody wrote to files are read from them."""
    return bool(trained_on["synthetic"]) and not data.own_name(trained_on["source"])


def ask_for_own(what: str, trained_on: Mapping[str, Any], data_path: Path | None) -> None:
    """Own files are known by name only: they must be given again."""
    name = data.own_name(trained_on["source"])
    if name and data_path is None:
        raise UsageError(f"{what} was trained on your own {name}; give it with --data-path")


def check_same(folder: Path, trained_on: Mapping[str, Any], prepared: Prepared) -> None:
    found = prepared.dataset.provenance
    if (found.name, found.sha256) != (trained_on["name"], trained_on["sha256"]):
        raise UsageError(
            f"{folder} was trained on {trained_on['name']} from {trained_on['source']} (sha256 "
            f"{trained_on['sha256'][:12] or 'none'}), not on {found.name} from {found.source} "
            f"({found.sha256[:12] or 'none'}); give the files of the run with --data-path"
        )
