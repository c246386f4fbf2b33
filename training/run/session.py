"""One training run, from data to an exported version: load, prepare, build, fit, evaluate, report, export."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ladle.models import Config, Network
from ladle.training import data
from ladle.training.data.pipeline import Prepared
from ladle.training.errors import TrainingError, UsageError
from ladle.training.evaluate import functions
from ladle.training.evaluate.evaluate import Evaluation, evaluate
from ladle.training.evaluate.headline import card_entry, compared
from ladle.training.export.export import Run, export
from ladle.training.export.inputs import parity_inputs, samples
from ladle.training.loop import checkpoint, config, devices, fit, hosts, run_folder, stages
from ladle.training.loop.checkpoint import Figures, State
from ladle.training.loop.progress import Phases, fact, meter, shown
from ladle.training.loop.signals import stopping
from ladle.training.report import report
from ladle.training.run import folds
from ladle.training.run.request import (
    Request,
    compose,
    get,
    is_generated,
    load,
    of_recorded,
    require_own_files,
    require_same,
)
from ladle.training.run.snapshot import snapshot
from ladle.training.weights import formats, initial, pretrained


@dataclass(frozen=True)
class Fitted:
    """A trained model, its functions, the data it was trained on, and the state at the end of its training."""

    model: keras.Model
    functions: functions.Functions
    data: Prepared
    state: State


@dataclass(frozen=True)
class Exported:
    """A new version.

    folder   where it lies in the model repository
    metrics  measured on the test split; empty on every host but the chief
    """

    folder: Path
    metrics: Mapping[str, Any]


def run(
    name: str,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    file: Path | None = None,
    **settings: Any,
) -> Path:
    """Train a network and export it; the folder of the new version. The arguments are those of `request.compose`.

    Raises UsageError: an unknown network, preset or option. Raises DataError, TrainingError or ExportError if the run
    fails. The same call continues an interrupted run.
    """
    return train(compose(get(name), preset, overrides, file, **settings)).folder


def train(request: Request) -> Exported:
    """Train and export what a request describes; raises as `run` does."""
    network = request.network
    devices.join()
    config.check(network, request.config)
    is_chief, has_others = hosts.chief(), hosts.count() > 1
    # Before the data: an hour of training must not end in a folder that cannot be written.
    if is_chief:
        run_folder.check_writable(request.runs, "--runs")
        run_folder.check_writable(request.repository, "--repository")
    phases = Phases()
    say(f"{network.name}: {network.summary}")
    if is_chief and request.model != network.name:
        say(fact("model", f"{request.model}, a name of its own in {request.repository}"))
    phases.begin("data")
    prepared = load(request)
    settings = prepared.config
    folds.check(prepared)
    is_staged = bool(network.stages(settings))
    if has_others and (settings.folds or is_staged):
        raise UsageError(f"{network.name}: folds and stages run on one host only; unset TF_CONFIG")
    first = initial.find(request.initial_weights) if request.initial_weights else None
    base = pretrained.find(network, settings, request.base_weights, data.Terminal())
    start: dict[str, Any] = {"precision": request.precision}
    start |= {"pretrained": base.provenance} if base else {}
    start |= {"initial": first.provenance} if first else {}
    what = {"network": network.name, "preset": request.preset, "config": config.as_dict(settings)}
    what |= {"data": _provenance(prepared), **start}
    what |= {"name": request.model} if request.model != network.name else {}

    def built(ready: Prepared) -> tuple[keras.Model, functions.Functions]:
        model = _build(network, ready.config, request.precision)
        if base:
            pretrained.restore(network, model, base)
        if first:
            initial.assign(first, network, model, ready.config, ready.assets)
        return model, functions.live(network, model, ready.config, ready.assets)

    def train_fold(ready: Prepared, file: Path) -> Evaluation:
        """Train and measure a new network on the data of one fold."""
        model, live = built(ready)
        _fit(request, model, live, ready, file)
        return evaluate(_plain(network, model, live, ready)[1], ready, request.repository)

    # The file that an interrupted run must have to be worth resuming.
    holds = run_folder.DESCRIPTION if settings.folds else "*.npz" if is_staged else run_folder.CHECKPOINT
    with (
        hosts.runs_folder(request.runs) as runs,
        run_folder.opened(runs, request.model, what, request.resume, holds) as folder,
    ):
        phases.begin("build")
        model, live = built(prepared)
        _introduce(request, prepared, model, what)
        if is_chief:
            say(f"  run       {folder.path}")
        metrics: dict[str, Any] = {}
        if settings.folds:
            phases.begin("folds")
            metrics["folds"] = folds.run(network, prepared, folder, train_fold, say)
            phases.begin("build")
            model, live = built(prepared)
        phases.begin("train")
        state, staged = _fit(request, model, live, prepared, folder.checkpoint, folder if is_chief else None)
        model, live = _plain(network, model, live, prepared)
        folder.write_history(state.history)
        measured: Mapping[str, Any] = {}

        def exported() -> Path:
            nonlocal measured
            fitted = Fitted(model, live, prepared, state)
            version = finish(request, fitted, folder.path, phases, {**staged, **start}, metrics)
            measured = version.metrics
            return version.folder

        version = hosts.on_chief(exported)
        folder.update(exported=str(version))
        if is_chief:
            say(f"  curves    tensorboard --logdir {shlex.quote(str(folder.path))}")
    say(f"  time      {phases}")
    return Exported(version, measured)


def finish(
    request: Request,
    fitted: Fitted,
    folder: Path,
    phases: Phases,
    entries: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> Exported:
    """Evaluate a trained model, draw its report into the run's folder, and export it.

    entries  further entries of the model card: the weights it started with, its stages
    metrics  further metrics for the card, beside those of the test and validation splits: those of the folds
    """
    network, prepared, state = request.network, fitted.data, fitted.state
    phases.begin("evaluate")
    result = evaluate(fitted.functions, prepared, request.repository)
    print_metrics(result)
    if request.report:
        phases.begin("report")
        report.write(folder / "report", network.name, prepared, state.history, state.best, result)
        say(f"  report    {folder / 'report'}")
    best = state.history[state.best - 1] if state.best else {}
    validation = {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}
    test = _finite(result.metrics)
    card = Run(
        data=_provenance(prepared),
        metrics={"test": test, "validation": validation, **metrics},
        epochs=state.epoch,
        training_seconds=state.seconds,
        machine=devices.machine(),
        preset=request.preset,
        trained={**entries, **card_entry({"test": test, "validation": validation}, metrics.get("folds"))},
    )
    phases.begin("export")
    version = export(
        network,
        fitted.model,
        prepared.config,
        prepared.assets,
        card,
        repository=request.repository,
        name=request.model,
        parity_inputs=parity_inputs(network, fitted.model, prepared),
        samples=samples(prepared),
        report=folder / "report" if request.report else None,
    )
    say(f"  exported  {version}")
    return Exported(version, test)


def export_run(
    name: str, folder: Path, repository: Path, data_path: Path | None = None, skip_broken: bool = False
) -> Exported:
    """Evaluate and export the checkpoint of a run: the weights of its best epoch, else the last ones.

    Raises UsageError: the run is another network's, or the data are not the run's. Raises TrainingError or ExportError
    if the work fails.
    """
    entries = run_folder.read(folder)
    network, what = _described(name, folder, entries)
    require_own_files(str(folder), what["data"], data_path)
    request = compose(
        network,
        what["preset"],
        config.checked(network, config.recorded(network, what["config"]), str(folder)),
        data_path=data_path,
        synthetic=is_generated(what["data"]),
        repository=repository,
        name=what.get("name"),
        skip_broken=skip_broken,
    )
    run_folder.check_writable(repository, "--repository")
    prepared = load(request)
    require_same(folder, what["data"], prepared)
    model = _build(network, prepared.config, "float32")
    state = checkpoint.load_best(folder / run_folder.CHECKPOINT, model)
    start = {name: what[name] for name in ("precision", "pretrained", "initial") if name in what}
    done = entries.get("folds", [])
    metrics = {"folds": folds.summary(done)} if len(done) == prepared.config.folds > 0 else {}
    live = functions.live(network, model, prepared.config, prepared.assets)
    return finish(request, Fitted(model, live, prepared, state), folder, Phases(), start, metrics)


def save_keras(name: str, folder: Path, files: Sequence[Path]) -> None:
    """Write the checkpoint of a run as Keras files, one a path; the ending is the format. No data are loaded.

    `.keras` and `.h5` hold the whole model; `.weights.h5` holds the weights alone. Raises UsageError: the run is
    another network's, or a file cannot be written. Raises TrainingError: the run has no checkpoint that can be read.
    """
    network, what = _described(name, folder, run_folder.read(folder))
    values = config.checked(network, config.recorded(network, what["config"]), str(folder))
    model = _build(network, config.compose(network, options=values), "float32")
    checkpoint.load_best(folder / run_folder.CHECKPOINT, model)
    for path in files:
        try:
            formats.save(model, path)
        except formats.FormatError as error:
            raise UsageError(str(error)) from error


def say(text: str) -> None:
    """Print a line to stderr; stdout is for the answer."""
    print(text, file=sys.stderr, flush=True)


def print_metrics(result: Evaluation) -> None:
    """Print the metrics of an evaluation, and what could not be measured."""
    numbers = {name: value for name, value in result.metrics.items() if isinstance(value, int | float)}
    say(fact("test", shown(numbers)))
    for name, words in result.metrics.items():
        if isinstance(words, str):
            say(f"            {name}: {words}")
    if "baselines" in result.metrics:
        name = compared(result.metrics)
        say(
            fact(
                "baseline",
                f"{name.replace('_', ' ')} of "
                + ", ".join(f"{each} {value:.4g}" for each, value in result.metrics["baselines"].items()),
            )
        )
    for note in result.notes:
        say(f"            {note}")


def _described(name: str, folder: Path, entries: Mapping[str, Any]) -> tuple[Network, Any]:
    """The network of a run, and what it was asked for. UsageError: it is a run of another network or model."""
    what = entries["what"]
    if name not in (what.get("network"), what.get("name")):
        raise UsageError(f"{folder}: got a run of {what.get('name', what.get('network'))}; expected a run of {name}")
    return of_recorded(what["network"], what["config"]), what


def _provenance(prepared: Prepared) -> dict[str, Any]:
    dataset = prepared.dataset
    return {**dataset.provenance.as_dict(), "splits": dataset.sizes(), **dataset.table()}


def _introduce(request: Request, prepared: Prepared, model: keras.Model, what: Mapping[str, Any]) -> None:
    """Print what is about to be trained: data, config, size, duration and device."""
    source, dataset = what["data"], prepared.dataset
    own = config.as_dict(request.network.config)
    facts = config.facts(request.network.config)
    changed = {name: value for name, value in what["config"].items() if value != own.get(name) and name not in facts}
    settings = " ".join(f"{name}={_option(value)}" for name, value in changed.items())
    sizes = ", ".join(f"{count:,} {split}" for split, count in source["splits"].items())
    marked = "SYNTHETIC, not real data: " if source["synthetic"] else ""
    say(fact("data", f"{marked}{source['name']} from {source['source']}; {sizes}"))
    if request.network.takes == "table":
        say(fact("columns", f"{len(dataset.columns or ())} to predict {prepared.config.target} from"))  # type: ignore[attr-defined]
    if data.own_name(source["source"]):  # what was left out of the user's own files, and how they were split
        for note in filter(None, source["notes"].split("; ")):
            say(f"            {note}")
    preset = f"preset {request.preset}: " if request.preset else ""
    say(fact("config", f"{preset}{settings or 'no option changed'}; all others at the network's defaults"))
    epochs = sum(stage.epochs for stage in request.network.stages(prepared.config)) or prepared.config.epochs
    say(
        fact(
            "model",
            f"{model.count_params():,} parameters; {epochs} epochs of {prepared.steps} steps, batch size "
            f"{prepared.batch_size}; {request.precision}{' with XLA' if request.xla else ''} on {devices.machine()}",
        )
    )


def _option(value: Any) -> str:
    """The value of an option as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _build(network: Network, settings: Config, precision: str) -> keras.Model:
    devices.start()
    # Resets the counters behind Keras's automatic layer names, so the names do not depend on what was built before.
    keras.backend.clear_session()
    keras.utils.set_random_seed(settings.seed)
    with devices.precision(precision), devices.strategy().scope():
        try:
            return network.build(settings)
        except ValueError as error:
            raise UsageError(f"{network.name} cannot be built: {error}") from error


def _plain(
    network: Network, model: keras.Model, live: functions.Functions, prepared: Prepared
) -> tuple[keras.Model, functions.Functions]:
    """The model in float32 on one device, as it is exported, and its functions."""
    mixed = model.dtype_policy.compute_dtype != model.dtype_policy.variable_dtype
    if not mixed and model.distribute_strategy.num_replicas_in_sync == 1:
        return model, live
    plain = network.build(prepared.config)
    checkpoint.assign(plain, checkpoint.values(model))
    return plain, functions.live(network, plain, prepared.config, prepared.assets)


def _fit(
    request: Request,
    model: keras.Model,
    live: functions.Functions,
    prepared: Prepared,
    file: Path,
    folder: run_folder.RunFolder | None = None,
) -> tuple[State, dict[str, Any]]:
    """Train; the final state, and the card's entry for the stages if there are any.

    live    the model's functions, for pictures
    file    the checkpoint
    folder  receives the metrics and pictures of each epoch
    """
    network = request.network

    def after_epoch(epoch: int, figures: Figures) -> None:
        if folder is None:
            return
        folder.add_scalars(epoch, figures)
        for name, image in snapshot(live, prepared).items():
            folder.add_image(epoch, name, image)

    def fit_part(part: keras.Model, ready: Prepared, file: Path, before: int) -> State:
        def counted(epoch: int, figures: Figures) -> None:
            after_epoch(before + epoch, figures)

        with stopping() as stop, meter(ready.config.epochs, ready.steps) as bar:
            return fit.fit(part, ready, file, meter=bar, stop=stop, after_epoch=counted, xla=request.xla)

    try:
        return stages.run(network, model, prepared, file, fit_part, say)
    except tf.errors.ResourceExhaustedError as error:
        raise TrainingError(
            f"{network.name}: a batch of {prepared.batch_size} does not fit into the device's memory; "
            "give a smaller --batch-size"
        ) from error
    except tf.errors.OpError as error:
        raise TrainingError(f"{network.name}: TensorFlow failed: {str(error).splitlines()[0]}") from error


def _finite(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics without NaN and infinities, which JSON cannot hold."""
    return {name: value for name, value in metrics.items() if not isinstance(value, float) or math.isfinite(value)}
