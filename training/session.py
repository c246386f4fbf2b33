"""One run from data to an exported version: load, prepare, build, fit, evaluate, report, export."""

from __future__ import annotations

import dataclasses
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import models
from models import Config, Network
from training import checkpoint, config, data, devices, fit, report, runs, served
from training._errors import InterruptedRunError, TrainingError, UsageError
from training.checkpoint import Figures, State
from training.data._dataset import Array
from training.data.pipeline import Prepared, prepare
from training.evaluate import Evaluation, evaluate
from training.export import PARITY_INPUTS, Run, Samples, export
from training.progress import clock, meter, shown
from training.snapshot import snapshot

SHAPE = ("height", "width", "channels")
SAMPLES = 8
SMALL = 64
"""Pixels of the sides of parity inputs, where a network takes images of any size."""


@dataclass(frozen=True)
class Request:
    """What is to be trained and how; `python -m training train` has an option for each.

    overrides  options of the network's config
    file       a model card or JSON object with options; `overrides` go over it
    data_path  the user's own files, in the layout of the config's data set
    synthetic  generated data in place of real ones
    resume     go on with an interrupted run of the same description
    xla        compile the steps with XLA
    """

    preset: str | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    file: Path | None = None
    data_path: Path | None = None
    synthetic: bool = False
    repository: Path = Path("model_repository")
    runs: Path = Path("runs")
    resume: bool = True
    precision: str = "float32"
    xla: bool = False


def run(name: str, preset: str | None = None, overrides: Mapping[str, Any] | None = None, **settings: Any) -> Path:
    """Train a network and export it; the folder of the new version. `settings` are the fields of Request.

    Raises UsageError for an unknown network, preset or option; DataError, TrainingError or ExportError when the work
    fails. An interrupted run is continued by the same call.
    """
    return train(name, Request(preset=preset, overrides=overrides or {}, **settings))


def train(name: str, request: Request) -> Path:
    """`run` with its settings in one object."""
    network = get(name)
    phases = _Phases()
    say(f"{name}: {network.summary}")
    with phases("data"):
        prepared = load(network, request)
    told = {**prepared.dataset.provenance.as_dict(), "splits": prepared.dataset.sizes()}
    what = {"network": name, "preset": request.preset, "config": config.as_dict(prepared.config), "data": told}
    what |= {"precision": request.precision}
    with runs.opened(request.runs, name, what, request.resume) as folder:
        with phases("build"):
            model = _build(network, prepared.config, request.precision)
        _introduce(network, prepared, request, model, folder.path)
        with phases("train"):
            state = _fit(network, model, prepared, folder, request)
        model = _plain(network, model, prepared.config)
        folder.history(state.history)
        version = finish(network, model, prepared, state, request, folder.path, phases)
        folder.tell(exported=str(version))
    say(f"  time      {phases}")
    return version


def finish(
    network: Network,
    model: keras.Model,
    prepared: Prepared,
    state: State,
    request: Request,
    folder: Path,
    phases: _Phases | None = None,
) -> Path:
    """Evaluate, draw and export a trained model; the folder of the new version."""
    phases = phases or _Phases()
    with phases("evaluate"):
        alive = served.live(network, model, prepared.config, prepared.assets)
        result = evaluate(alive, prepared, request.repository)
    tell(result)
    with phases("report"):
        report.write(folder / "report", network.name, prepared, state.history, state.best, result)
    say(f"  report    {folder / 'report'}")
    best = state.history[state.best - 1] if state.best else {}
    validation = {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}
    entry = Run(
        data={**prepared.dataset.provenance.as_dict(), "splits": prepared.dataset.sizes()},
        metrics={"test": _finite(result.metrics), "validation": validation},
        epochs=state.epoch,
        training_seconds=state.seconds,
        machine=devices.machine(),
        preset=request.preset,
    )
    with phases("export"):
        version = export(
            network,
            model,
            prepared.config,
            prepared.assets,
            entry,
            repository=request.repository,
            parity_inputs=parity_inputs(network, model, prepared),
            samples=samples(prepared),
            report=folder / "report",
        )
    say(f"  exported  {version}")
    return version


def of_version(version: Path, data_path: Path | None, synthetic: bool) -> Prepared:
    """The data set that an exported version was trained on, ready for it.

    Own files are needed again when it was trained on those; a model of generated data is measured on such.
    """
    card = served.read_card(version)
    network = get(card["network"])
    synthetic = synthetic or (card["data"]["synthetic"] and data_path is None)
    request = Request(file=version / "assets.extra" / "card.json", data_path=data_path, synthetic=synthetic)
    return load(network, request, served.read_assets(version))


def export_run(name: str, folder: Path, repository: Path, data_path: Path | None = None) -> Path:
    """Evaluate and export what a run's checkpoint holds; the folder of the new version.

    The best epoch's weights, or the last ones where no epoch is done.
    """
    told = runs.read(folder)["what"]
    network = get(name)
    if told["network"] != name:
        raise UsageError(f"{folder} is a run of {told['network']}, not of {name}")
    request = Request(
        preset=told["preset"],
        overrides=config.checked(network, told["config"], str(folder)),
        data_path=data_path,
        synthetic=told["data"]["synthetic"],
        repository=repository,
    )
    prepared = load(network, request)
    model = _build(network, prepared.config, "float32")
    state = checkpoint.load_best(folder / runs.CHECKPOINT, model)
    return finish(network, model, prepared, state, request, folder)


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
    taken = data.options(wanted.data, synthetic=request.synthetic)
    shape = {name: asked[name] for name in SHAPE if name in asked}
    dataset = data.load(
        wanted.data,
        path=request.data_path,
        synthetic=request.synthetic,
        seed=wanted.seed,
        progress=data.Terminal(),
        **{name: value for name, value in shape.items() if name in taken},
    )
    prepared = prepare(network, wanted, dataset, assets)
    for name, value in shape.items():
        if getattr(prepared.config, name) != value:
            found = getattr(prepared.config, name)
            raise UsageError(f"{network.name}: {name} is {value}, but {dataset.name} has {found}; leave the option out")
    return prepared


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def tell(result: Evaluation) -> None:
    """Print the figures of an evaluation, and what could not be measured."""
    numbers = {name: value for name, value in result.metrics.items() if isinstance(value, int | float)}
    say(f"  test      {shown(numbers)}")
    for name, words in result.metrics.items():
        if isinstance(words, str):
            say(f"            {name}: {words}")
    for note in result.notes:
        say(f"            {note}")


def _introduce(network: Network, prepared: Prepared, request: Request, model: keras.Model, folder: Path) -> None:
    source, dataset = prepared.dataset.provenance, prepared.dataset
    settings = " ".join(f"{k}={v}" for k, v in config.as_dict(prepared.config).items())
    sizes = ", ".join(f"{count:,} {split}" for split, count in dataset.sizes().items())
    marked = "SYNTHETIC, not real data: " if source.synthetic else ""
    say(f"  data      {marked}{source.name} from {source.source}; {sizes}")
    say(f"  config    {f'preset {request.preset}: ' if request.preset else ''}{settings}")
    say(
        f"  model     {model.count_params():,} parameters; {prepared.config.epochs} epochs of {prepared.steps} steps "
        f"of {prepared.batch_size}; {request.precision}{' with XLA' if request.xla else ''} on {devices.machine()}"
    )
    say(f"  run       {folder}")


def _build(network: Network, wanted: Config, precision: str) -> keras.Model:
    devices.start()
    keras.backend.clear_session()
    keras.utils.set_random_seed(wanted.seed)
    with devices.precision(precision), devices.strategy().scope():
        try:
            return network.build(wanted)
        except ValueError as error:
            raise UsageError(f"{network.name} cannot be built: {error}") from error


def _plain(network: Network, model: keras.Model, wanted: Config) -> keras.Model:
    """The model in float32 on one device, as it is served."""
    mixed = model.dtype_policy.compute_dtype != model.dtype_policy.variable_dtype
    if not mixed and model.distribute_strategy.num_replicas_in_sync == 1:
        return model
    plain = network.build(wanted)
    checkpoint.assign(plain, checkpoint.values(model))
    return plain


def _fit(network: Network, model: keras.Model, prepared: Prepared, folder: runs.RunFolder, request: Request) -> State:
    alive = served.live(network, model, prepared.config, prepared.assets)

    def after_epoch(epoch: int, figures: Figures) -> None:
        folder.scalars(epoch, figures)
        for name, image in snapshot(alive, prepared).items():
            folder.image(epoch, name, image)

    settings: dict[str, Any] = {"after_epoch": after_epoch, "xla": request.xla}
    try:
        with stopping() as stop, meter(prepared.config.epochs, prepared.steps) as bar:
            return fit.fit(model, prepared, folder.checkpoint, meter=bar, stop=stop, **settings)
    except tf.errors.ResourceExhaustedError as error:
        raise TrainingError(
            f"{network.name}: the device's memory does not hold a batch of {prepared.batch_size}; "
            "give a smaller --batch-size"
        ) from error
    except tf.errors.OpError as error:
        raise TrainingError(f"{network.name}: TensorFlow failed: {str(error).splitlines()[0]}") from error


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Inside, SIGINT and SIGTERM only set what the yielded function returns; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = threading.Event()

    def heard(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise InterruptedRunError("stopped at once; the same command goes on from the last checkpoint")
        asked.set()

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parity_inputs(network: Network, model: keras.Model, prepared: Prepared) -> dict[str, Array]:
    """At least PARITY_INPUTS real inputs of serving_default by name: of the test split, then of the others.

    Noise where the network takes noise. A network for images of any size gets their corners.
    """
    spec = network.signatures(model, prepared.config, prepared.assets)["serving_default"].inputs()
    name, tensor = next(iter(spec.items()))
    if name not in ("image", "tokens", "x"):
        noise = np.random.default_rng(prepared.config.seed).standard_normal((PARITY_INPUTS, *tensor.shape[1:]))
        return {name: noise.astype(np.float32)}
    parts = [part.inputs(slice(0, PARITY_INPUTS)) for part in (prepared.test, prepared.validation, prepared.train)]
    inputs = np.concatenate(parts)
    inputs = np.concatenate([inputs] * math.ceil(PARITY_INPUTS / len(inputs)))[:PARITY_INPUTS]
    if name == "image" and tensor.shape[1] is None:
        inputs = inputs[:, :SMALL, :SMALL]
    return {name: inputs}


def samples(prepared: Prepared) -> Samples:
    """Some real test inputs with their truth, each class in turn where there are classes."""
    test, labels = prepared.dataset.test, prepared.assets.labels
    rows = np.arange(len(test))
    classes = prepared.task in ("classify", "sentiment")
    if classes:
        truth = np.asarray(test.y)
        first = [np.flatnonzero(truth == c)[:SAMPLES] for c in range(len(labels))]
        rows = np.array([r for i in range(SAMPLES) for found in first for r in found[i : i + 1]])
    rows = rows[:SAMPLES]
    told = tuple(labels[int(test.y[row])] for row in rows) if classes and test.y is not None else ()
    if prepared.dataset.kind == "text":
        return Samples(texts=tuple(test.x[row].decode(errors="replace") for row in rows), labels=told)
    if prepared.dataset.kind == "table":
        return Samples()
    masks = np.asarray(test.y)[rows] if prepared.task == "segment" else None
    return Samples(images=np.asarray(test.x)[rows], labels=told, masks=masks)


def _finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: a figure that is not a number is left out."""
    return {name: value for name, value in figures.items() if not isinstance(value, float) or math.isfinite(value)}


class _Phases:
    """How long each part of a run took."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0) + time.monotonic() - started

    def __str__(self) -> str:
        each = ", ".join(f"{name} {clock(seconds)}" for name, seconds in self._seconds.items())
        return f"{each}; {clock(sum(self._seconds.values()))} in all"
