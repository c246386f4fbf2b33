"""One run from data to an exported version: load, prepare, build, fit, evaluate, report, export."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
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
from ladle.training.export.export import Run, export
from ladle.training.export.inputs import parity_inputs, samples
from ladle.training.loop import checkpoint, config, devices, fit, hosts, run_folder, stages
from ladle.training.loop.checkpoint import Figures, State
from ladle.training.loop.progress import Phases, meter, shown
from ladle.training.loop.signals import stopping
from ladle.training.report import report
from ladle.training.run import folds
from ladle.training.run.request import Request, ask_for_own, check_same, generated, get, load, of_version
from ladle.training.run.snapshot import snapshot
from ladle.training.weights import initial, pretrained

__all__ = ["Request", "export_run", "finish", "get", "load", "of_version", "run", "say", "tell", "train"]


def run(name: str, preset: str | None = None, overrides: Mapping[str, Any] | None = None, **settings: Any) -> Path:
    """Train a network and export it; the folder of the new version. `settings` are the fields of Request.

    Raises UsageError for an unknown network, preset or option; DataError, TrainingError or ExportError when the work
    fails. An interrupted run is continued by the same call.
    """
    return train(name, Request(preset=preset, overrides=overrides or {}, **settings))


def train(name: str, request: Request) -> Path:
    """`run` with its settings in one object."""
    devices.join()
    network = get(name)
    phases = Phases()
    say(f"{name}: {network.summary}")
    with phases("data"):
        prepared = load(network, request)
        config.agree(prepared.config)
        folds.check(prepared)
        if hosts.count() > 1 and (prepared.config.folds or network.stages(prepared.config)):
            raise UsageError(f"{name}: folds and stages are trained by one host; unset TF_CONFIG")
        begin = initial.find(request.initial_weights) if request.initial_weights else None
        weights = pretrained.find(network, prepared.config, request.base_weights, data.Terminal())
    told = {**prepared.dataset.provenance.as_dict(), "splits": prepared.dataset.sizes()}
    what = {"network": name, "preset": request.preset, "config": config.as_dict(prepared.config), "data": told}
    begun: dict[str, Any] = {"precision": request.precision}
    begun |= {"pretrained": weights.told} if weights else {}
    begun |= {"initial": begin.told} if begin else {}
    what |= begun
    holds = "*.npz" if network.stages(prepared.config) else run_folder.CHECKPOINT
    holds = run_folder.TOLD if prepared.config.folds else holds

    def built(ready: Prepared) -> keras.Model:
        model = _build(network, ready.config, request.precision)
        if weights:
            pretrained.restore(network, model, weights)
        if begin:
            initial.put(begin, network, model, ready.config, ready.assets)
        return model

    def teach(ready: Prepared, file: Path) -> Evaluation:
        model = built(ready)
        _fit(network, model, ready, file, request)
        model = _plain(network, model, ready.config)
        return evaluate(functions.live(network, model, ready.config, ready.assets), ready, request.repository)

    with hosts.home(request.runs) as home, run_folder.opened(home, name, what, request.resume, holds) as folder:
        with phases("build"):
            model = built(prepared)
        _introduce(network, prepared, request, model, folder.path)
        more: dict[str, Any] = {}
        if prepared.config.folds:
            with phases("folds"):
                more["folds"] = folds.run(network, prepared, folder, teach, say)
            with phases("build"):
                model = built(prepared)
        with phases("train"):
            state, trained = _fit(
                network, model, prepared, folder.checkpoint, request, folder if hosts.chief() else None
            )
        trained |= begun
        model = _plain(network, model, prepared.config)
        folder.history(state.history)
        version = hosts.by_chief(
            lambda: finish(network, model, prepared, state, request, folder.path, phases, trained, more)
        )
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
    phases: Phases | None = None,
    trained: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Path:
    """Evaluate, draw and export a trained model; the folder of the new version.

    trained  what else the card says of the training: weights it began with, stages
    more     figures beside those of test and validation: of the folds
    """
    phases = phases or Phases()
    with phases("evaluate"):
        alive = functions.live(network, model, prepared.config, prepared.assets)
        result = evaluate(alive, prepared, request.repository)
    tell(result)
    if request.report:
        with phases("report"):
            report.write(folder / "report", network.name, prepared, state.history, state.best, result)
        say(f"  report    {folder / 'report'}")
    best = state.history[state.best - 1] if state.best else {}
    validation = {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}
    entry = Run(
        data={**prepared.dataset.provenance.as_dict(), "splits": prepared.dataset.sizes()},
        metrics={"test": _finite(result.metrics), "validation": validation, **(more or {})},
        epochs=state.epoch,
        training_seconds=state.seconds,
        machine=devices.machine(),
        preset=request.preset,
        trained=trained or {},
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
            report=folder / "report" if request.report else None,
        )
    say(f"  exported  {version}")
    return version


def export_run(name: str, folder: Path, repository: Path, data_path: Path | None = None) -> Path:
    """Evaluate and export what a run's checkpoint holds; the folder of the new version.

    The best epoch's weights, or the last ones where no epoch is done. UsageError when the data are not the run's.
    """
    told = run_folder.read(folder)["what"]
    network = get(name)
    if told["network"] != name:
        raise UsageError(f"{folder} is a run of {told['network']}, not of {name}")
    ask_for_own(str(folder), told["data"], data_path)
    request = Request(
        preset=told["preset"],
        overrides=config.checked(network, config.recorded(network, told["config"]), str(folder)),
        data_path=data_path,
        synthetic=generated(told["data"]),
        repository=repository,
    )
    prepared = load(network, request)
    check_same(folder, told["data"], prepared)
    model = _build(network, prepared.config, "float32")
    state = checkpoint.load_best(folder / run_folder.CHECKPOINT, model)
    trained = {name: told[name] for name in ("precision", "pretrained", "initial") if name in told}
    done = run_folder.read(folder).get("folds", [])
    more = {"folds": folds.summary(done)} if len(done) == prepared.config.folds > 0 else {}
    return finish(network, model, prepared, state, request, folder, trained=trained, more=more)


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
    epochs = sum(stage.epochs for stage in network.stages(prepared.config)) or prepared.config.epochs
    say(
        f"  model     {model.count_params():,} parameters; {epochs} epochs of {prepared.steps} steps "
        f"of {prepared.batch_size}; {request.precision}{' with XLA' if request.xla else ''} on {devices.machine()}"
    )
    if hosts.chief():
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


def _fit(
    network: Network,
    model: keras.Model,
    prepared: Prepared,
    file: Path,
    request: Request,
    folder: run_folder.RunFolder | None = None,
) -> tuple[State, dict[str, Any]]:
    """Train; the state at the end, and what the card says of the stages where there are some.

    folder  gets scalars and pictures of each epoch
    """
    alive = functions.live(network, model, prepared.config, prepared.assets)

    def after_epoch(epoch: int, figures: Figures) -> None:
        if folder is None:
            return
        folder.scalars(epoch, figures)
        for name, image in snapshot(alive, prepared).items():
            folder.image(epoch, name, image)

    def one(part: keras.Model, ready: Prepared, file: Path, before: int) -> State:
        def told(epoch: int, figures: Figures) -> None:
            after_epoch(before + epoch, figures)

        with stopping() as stop, meter(ready.config.epochs, ready.steps) as bar:
            return fit.fit(part, ready, file, meter=bar, stop=stop, after_epoch=told, xla=request.xla)

    try:
        return stages.run(network, model, prepared, file, one, say)
    except tf.errors.ResourceExhaustedError as error:
        raise TrainingError(
            f"{network.name}: the device's memory does not hold a batch of {prepared.batch_size}; "
            "give a smaller --batch-size"
        ) from error
    except tf.errors.OpError as error:
        raise TrainingError(f"{network.name}: TensorFlow failed: {str(error).splitlines()[0]}") from error


def _finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: a figure that is not a number is left out."""
    return {name: value for name, value in figures.items() if not isinstance(value, float) or math.isfinite(value)}
