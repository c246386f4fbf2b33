"""What the rest of Ladle knows of a network: its config, how to build it, what it serves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ladle.models._signatures import Signature

Task = Literal["classify", "sentiment", "regress", "reconstruct", "generate", "segment"]
TASKS: tuple[Task, ...] = ("classify", "sentiment", "regress", "reconstruct", "generate", "segment")


def option(default: Any, help: str) -> Any:
    """A dataclass field that is also a command-line option; `help` gives its meaning and unit."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Config:
    """Hyper-parameters that every network has; a family's own Config extends it.

    A field that is also a fact of the data (`height`, `width`, `channels`, `num_classes`, `vocab_size`) is set from
    the data set before the network is built, so one network serves grey 28×28 and colour 64×64 alike.
    """

    data: str = option("fashion_mnist", "data set (`ladle data` lists them)")
    batch_size: int = option(128, "examples per step")
    epochs: int = option(5, "passes over the training examples")
    learning_rate: float = option(1e-3, "step size of the optimizer")
    schedule: str = option(
        "constant", "learning rate over the run: constant | cosine | exponential | step | polynomial | inverse_time"
    )
    warmup: float = option(0.0, "share of the run over which the learning rate rises to its value")
    decay: float = option(
        0.0, "`exponential`: factor an epoch; `step`: at each of decay_epochs; `inverse_time`: X in 1/(1 + X·epochs)"
    )
    decay_epochs: tuple[int, ...] = option((), "epochs after which the schedule `step` multiplies by `decay`")
    decay_power: float = option(1.0, "power of the schedule `polynomial`; 1: a straight line")
    decay_to: float = option(0.0, "share of the learning rate with which `cosine` and `polynomial` end")
    clip_value: float = option(0.0, "largest number in a gradient; a larger one is cut; 0: any")
    clip_norm: float = option(0.0, "longest gradient of a weight; a longer one is scaled down; 0: any")
    clip_global_norm: float = option(0.0, "longest gradient of all weights together, scaled down beyond; 0: any")
    monitor: str = option(
        "val_loss", "figure that picks the best epoch; one with `accuracy` or `iou` in its name rises"
    )
    patience: int = option(0, "epochs without a better monitored figure before training stops; 0: never")
    until: str = option("", "stop when a validation metric reaches a value: METRIC=VALUE, such as accuracy=0.97")
    folds: int = option(0, "k-fold cross-validation before training: so many folds; 0: none")
    train_limit: int = option(0, "use only so many training examples; 0: all")
    augment: bool = option(False, "random changes to the training images (flips, shifts), fixed by the seed")
    elastic: float = option(0.0, "deviation in pixels of smooth random bending of the training images; 0: none")
    seed: int = option(42, "seed of the weights, the order of examples and all noise")


@dataclass(frozen=True)
class Assets:
    """Words that travel with a model.

    labels      class names in the order of their ids, or empty
    vocabulary  words, most frequent first, or empty
    """

    labels: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A part of training that is announced by its name; a network without stages trains in one.

    begin          changes what of the model is trained, and compiles it; says in words what it did
    epochs         passes over the training examples after that; 0: none
    learning_rate  step size of the optimizer in those
    split          model -> (frozen part, trained part) where the first does not change: what it makes of each example
                   is then computed once, unless images are augmented
    """

    name: str
    begin: Callable[[Any], str]
    epochs: int = 0
    learning_rate: float = 0.0
    split: Callable[[Any], tuple[Any, Any]] | None = None


@dataclass(frozen=True)
class Claim:
    """A statement about a network's measured metrics, which the results page checks.

    statement  in words, after the network's name and a colon
    check      records of a run (the network's, then those of `others`) -> what was measured, in words, and whether the
               statement holds; KeyError names a metric that was not measured
    others     names of the networks with which it is compared
    """

    statement: str
    check: Callable[..., tuple[str, bool]]
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """One row of a family's table.

    name         registry name, folder in the repository, servable and word in the URL
    task         what a caller asks of it: one of TASKS
    summary      one sentence for the model card and for `ladle networks`
    config       every hyper-parameter with its default
    build        config -> compiled keras.Model. `model.train_step` is all that the training loop calls; a model
                 with several optimizers lists them in `model.optimizers`
    signatures   (model, config, assets) -> served functions by name, `serving_default` among them
    example      config -> a small batch of inputs of serving_default by name: warm-up, parity, demo
    parameters   number of weights of `build(config)`, trainable or not (optimizer and metrics aside)
    tiny         overrides of config that train in seconds, for tests
    presets      overrides of config by preset name: `quick` (2 cores, minutes), `full` (the published figure)
    source       paper in which the network was first described
    aim          the published figure that `full` aims for, with its source; empty: none for this network and data
    pretrained   config -> name of the published weights that training begins with, empty for none
    restore      (model, tensors by the names of their PyTorch checkpoint): puts such weights into a built model
    stages       config -> the parts of its training, in their order
    claims       statements about its measured metrics
    feature_extractor
                 its logits are the preferred features for the Fréchet distance of generated images
    """

    name: str
    task: Task
    summary: str
    config: Config
    build: Callable[[Any], Any]
    signatures: Callable[[Any, Any, Assets], dict[str, Signature]]
    example: Callable[[Any], dict[str, np.ndarray]]
    parameters: int
    tiny: Mapping[str, Any]
    presets: Mapping[str, Mapping[str, Any]]
    source: str
    aim: str = ""
    pretrained: Callable[[Any], str] = lambda config: ""
    restore: Callable[[Any, Mapping[str, np.ndarray]], None] | None = None
    stages: Callable[[Any], Sequence[Stage]] = lambda config: ()
    claims: tuple[Claim, ...] = ()
    feature_extractor: bool = False

    def configured(self, **overrides: Any) -> Config:
        """The config with `overrides`; ValueError names an unknown key and the known ones."""
        known = {f.name for f in dataclasses.fields(self.config)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise ValueError(
                f"{self.name}: unknown option {', '.join(unknown)}; expected one of {', '.join(sorted(known))}"
            )
        return dataclasses.replace(self.config, **overrides)
