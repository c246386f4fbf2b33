"""What to train and how, with its config composed; and the data for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ladle import models
from ladle.models import Config, Network, Task
from ladle.training import data
from ladle.training.data.pipeline import KIND_OF_TASK, Prepared, prepare
from ladle.training.errors import UsageError
from ladle.training.evaluate import functions
from ladle.training.loop import config

SHAPE = ("height", "width", "channels")
TABLE_TASKS: dict[str, Task] = {"classification": "classify", "regression": "regress"}
"""What `--task` takes -> the task of the network."""


@dataclass(frozen=True)
class Request:
    """What to train and how; `ladle train` has an option for each field.

    config                hyperparameters: the network's defaults < preset < file < options
    given                 names of the hyperparameters that the preset, the file or an option set
    data_path             the user's own files, in the layout of the config's data set
    base_weights          the user's own file of the pre-trained base's published weights
    initial_weights       a Keras file, a version or a run whose weights the whole network starts with
    synthetic             use generated data instead of real data
    synthetic_if_missing  use generated data only if the real set is unavailable
    resume                continue an interrupted run of the same description
    xla                   compile the steps with XLA
    report                draw the pictures of the run
    name                  the model's name in the repository; None: the network's, with the name of the user's own files
    skip_broken           leave out pictures of the user that cannot be read
    """

    network: Network
    config: Config
    given: frozenset[str] = frozenset()
    preset: str | None = None
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
    name: str | None = None
    skip_broken: bool = False

    @property
    def model(self) -> str:
        """The model's name in the repository and of its runs: own data never become a version of the stock model."""
        if self.name is not None or self.data_path is None:
            return self.name or self.network.name
        # Two targets of a table are two models, not two versions of one.
        target = _plain(getattr(self.config, "target", ""))
        return f"{self.network.name}_{stem(self.data_path)}" + (f"_{target}" if target else "")


def stem(path: Path) -> str:
    """The last name of a path, without endings, in letters that a model's name may have. UsageError: none is left."""
    name = _plain(path.expanduser().resolve().name.partition(".")[0])
    if not name:
        raise UsageError(f"{path}: its name has no Latin letter or digit to call the model after; give --name")
    return name


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()


def check_name(name: str | None) -> None:
    """UsageError: the name is a network's own, or none that a model can have."""
    if name is None:
        return
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name.isdigit():
        raise UsageError(f"--name: got {name!r}; expected letters, digits, '.', '_' and '-', beginning with no sign")
    if name in models.names():
        raise UsageError(f"--name: {name} is the name of a network; give another, such as my_{name}")


def compose(
    network: Network,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    file: Path | None = None,
    **settings: Any,
) -> Request:
    """A request with its config composed from the preset, a file and options.

    overrides  options of the network's config; they override the file
    file       a model card, or a JSON object of options
    settings   the other fields of Request

    Raises UsageError: an unknown preset or option, a value of the wrong type, a file that cannot be read.
    """
    read = config.read(file, network) if file else {}
    composed = config.compose(network, preset, read, overrides)
    given = {*(network.presets[preset] if preset else ()), *read, *(overrides or ())}
    return Request(network, composed, frozenset(given), preset, **settings)


def compose_own(
    network: Network,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    file: Path | None = None,
    **settings: Any,
) -> Request:
    """As `compose`; if no option names the data set, it is the one whose layout the user's files have.

    Raises DataError: the files are of another kind than the network takes.
    """
    request = compose(network, preset, overrides, file, **settings)
    if request.data_path is None or "data" in (overrides or {}) or network.takes:
        return request
    found = data.recognise(request.data_path.expanduser(), KIND_OF_TASK[network.task], request.config.data)
    return replace(request, config=replace(request.config, data=found))


def for_table(
    network: Network, path: Path | None, target: str | None, task: str | None, skip_broken: bool = False
) -> tuple[Network, dict[str, Any], str]:
    """The network that stands in for `network` on the user's table, the options of that table, and a sentence to print.

    path          the user's files; None: there are none
    target, task  as `--target` and `--task` give them

    Without a table, the network as it is. Raises UsageError: the network takes no tables, or no such target. Raises
    DataError: the table is unfit.
    """
    file = None if path is None else path.expanduser()
    if file is None or (target is None and task is None and not (network.tables and data.holds_table(file))):
        if target is not None or task is not None:
            raise UsageError("--target and --task belong to a table of your own; give it with --data TABLE.csv")
        return network, {}, ""
    if not network.tables:
        raise UsageError(f"{network.name}: takes no tables; train {_takers(*TABLE_TASKS.values())}")
    if task is not None and task not in TABLE_TASKS:
        raise UsageError(f"--task: got {task!r}; expected {' or '.join(TABLE_TASKS)}")
    decided, sentence = data.decide(file, target or "", skip_broken)
    found = task or decided
    if TABLE_TASKS[found] not in network.tables:
        other = next(name for name in TABLE_TASKS if name != found)
        raise UsageError(
            f"{network.name}: {target} is taken for {'classes' if found == 'classification' else 'a number'}; train "
            f"{_takers(TABLE_TASKS[found])}, or give --task {other}"
        )
    return network.tables[TABLE_TASKS[found]], {"target": target or "", "task": found}, "" if task else sentence


def _takers(*tasks: Task) -> str:
    """The networks that take tables for one of these tasks."""
    return " or ".join(name for name in models.names() if {*tasks} & models.described(name).tables.keys())


def of_recorded(name: str, values: Mapping[str, Any]) -> Network:
    """The network that a card or a run names, with the config `values`: for a table, the one that stands in for it."""
    network = get(name)
    if values.get("data") != "table" or network.takes:
        return network
    task = TABLE_TASKS.get(str(values.get("task")), "regress")
    if task not in network.tables:
        raise UsageError(f"{name}: was trained on a table, which this version's {name} does not take; train it again")
    return network.tables[task]


def get(name: str) -> Network:
    """The network of that name. UsageError: there is none; the message names similar ones."""
    try:
        return models.get(name)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from error


def load(request: Request, assets: models.Assets | None = None) -> Prepared:
    """Load the request's data set and prepare it for its network.

    assets  labels and vocabulary of an exported version, used instead of the data set's

    Raises DataError: the data are unavailable or unfit. UsageError: an option asks for images of another shape than the
    data set has.
    """
    network, config = request.network, request.config
    options = {*data.options(config.data, synthetic=request.synthetic)}
    if request.synthetic_if_missing:
        options |= {*data.options(config.data, synthetic=True)}
    shape = {name: getattr(config, name) for name in SHAPE if name in request.given}
    # Some networks scale images themselves. They set the size to which pictures of differing sizes are brought.
    size = {"size": getattr(config, "size", None)} if "size" in options else {}
    more: dict[str, Any] = {"skip_broken": True} if request.skip_broken and "skip_broken" in options else {}
    void = getattr(config, "void", -1)
    if void >= 0 and "void" not in options:
        raise UsageError(f"{network.name}: --void is for your own masks, and {config.data} has none to leave out")
    more |= {"void": void} if void >= 0 else {}
    if network.takes == "table":
        more |= _table_options(config, assets)
    dataset = data.load(
        config.data,
        path=request.data_path,
        synthetic=request.synthetic,
        allow_synthetic=request.synthetic_if_missing,
        seed=config.seed,
        progress=data.Terminal(),
        **{name: value for name, value in shape.items() if name in options},
        **size,
        **more,
    )
    prepared = prepare(network, config, dataset, assets)
    for name, value in shape.items():
        found = getattr(prepared.config, name)
        if found != value:
            raise UsageError(
                f"{network.name}: got {name} {value}; expected {found}, as {dataset.name} has; leave the option out"
            )
    return prepared


def _table_options(settings: Any, assets: models.Assets | None) -> dict[str, Any]:
    """The options that read a table; for an exported version, with its columns, categories and classes."""
    options: dict[str, Any] = {"target": settings.target, "task": settings.task}
    if assets is not None:
        options["columns"] = {name: settings.categories_of(i) for i, name in enumerate(settings.columns)}
        options["labels"] = assets.labels or None
    return options


def of_version(version: Path, data_path: Path | None, synthetic: bool, skip_broken: bool = False) -> Prepared:
    """The data set that an exported version was trained on, prepared for that version.

    A model trained on generated data is measured on generated data. UsageError: it was trained on the user's own files,
    and they are not given again.
    """
    card = functions.read_card(version)
    network = of_recorded(card["network"], card["config"])
    synthetic = synthetic or (is_generated(card["data"]) and data_path is None)
    if not synthetic:
        require_own_files(str(version), card["data"], data_path)
    values = config.checked(network, config.recorded(network, card["config"]), str(version))
    return load(
        compose(network, overrides=values, data_path=data_path, synthetic=synthetic, skip_broken=skip_broken),
        functions.read_assets(version),
    )


def is_generated(provenance: Mapping[str, Any]) -> bool:
    """Whether a run's data were generated for it. Generated data that somebody wrote to files count as files."""
    return bool(provenance["synthetic"]) and not data.own_name(provenance["source"])


def require_own_files(owner: str, provenance: Mapping[str, Any], data_path: Path | None) -> None:
    """Raise UsageError if the data are the user's own files and `data_path` is missing.

    Cards and runs keep the files' name only, never their path: a card may travel to other machines.
    """
    name = data.own_name(provenance["source"])
    if name and data_path is None:
        raise UsageError(f"{owner} was trained on your own {name}; give it with --data-path")


def require_same(folder: Path, provenance: Mapping[str, Any], prepared: Prepared) -> None:
    """Raise UsageError unless the data are those that the run in `folder` was trained on, by SHA-256."""
    found = prepared.dataset.provenance
    if (found.name, found.sha256) != (provenance["name"], provenance["sha256"]):
        raise UsageError(
            f"{folder}: got {found.name} from {found.source} (sha256 {found.sha256[:12] or 'none'}); expected "
            f"{provenance['name']} from {provenance['source']} (sha256 {provenance['sha256'][:12] or 'none'}); "
            "give the files of the run with --data-path"
        )
