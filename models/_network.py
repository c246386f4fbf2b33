"""The interface of a network to the rest of Ladle: its config, its builder, its signatures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # both take long to import, and a list of networks needs neither
    import numpy as np

    from ladle.models._signatures import Signature

Task = Literal["classify", "sentiment", "regress", "reconstruct", "generate", "segment", "filter"]
TASKS: tuple[Task, ...] = ("classify", "sentiment", "regress", "reconstruct", "generate", "segment", "filter")


VOID = 255
"""Class id of mask pixels that do not count: unlabelled, or on the outline between two objects."""


def option(default: Any, help: str) -> Any:
    """Declare a dataclass field that is also a command-line option; `help` gives its meaning and unit."""
    return field(default=default, metadata={"help": help})


def fact(default: Any) -> Any:
    """Declare a dataclass field that is set from the data alone: no command-line option."""
    return field(default=default, metadata={"fact": True})


@dataclass(frozen=True)
class Config:
    """Hyperparameters of every network. Each family extends this class.

    `height`, `width`, `channels`, `num_classes` and `vocab_size` are properties of the data. They are set from the data
    set before the network is built, so one network works with grey 28×28 and with colour 64×64 images.
    """

    data: str = option("fashion_mnist", "data set (`ladle data` lists them)")
    batch_size: int = option(128, "examples per step")
    epochs: int = option(5, "passes over the training examples")
    learning_rate: float = option(1e-3, "step size of the optimizer")
    schedule: str = option(
        "constant", "learning rate over the run: constant | cosine | exponential | step | polynomial | inverse_time"
    )
    warmup: float = option(0.0, "share of the run in which the learning rate rises linearly to its full value")
    decay: float = option(
        0.0,
        "`exponential`: factor per epoch; `step`: at each of decay_epochs; `inverse_time`: X in 1/(1 + X·epochs)",
    )
    decay_epochs: tuple[int, ...] = option((), "epochs after which the schedule `step` applies `decay`")
    decay_power: float = option(1.0, "exponent of the schedule `polynomial`; 1: linear")
    decay_to: float = option(0.0, "final learning rate of `cosine` and `polynomial`, as a share of learning_rate")
    clip_value: float = option(0.0, "clip each number in a gradient to this magnitude; 0: no clipping")
    clip_norm: float = option(0.0, "clip the gradient of each weight to this norm; 0: no clipping")
    clip_global_norm: float = option(0.0, "clip the gradients of all weights to this joint norm; 0: no clipping")
    monitor: str = option(
        "val_loss", "metric that selects the best epoch: highest for names with `accuracy` or `iou`, else lowest"
    )
    patience: int = option(0, "stop after this many epochs without a better monitored metric; 0: never stop early")
    until: str = option("", "stop when a validation metric reaches a value: METRIC=VALUE, such as accuracy=0.97")
    max_minutes: float = option(0.0, "stop after the epoch in which this many minutes of training end; 0: no limit")
    folds: int = option(0, "folds of the k-fold cross-validation before training; 0: none")
    train_limit: int = option(0, "use at most this many training examples; 0: all")
    augment: bool = option(False, "augment the training images with random flips and shifts; the seed fixes them")
    elastic: float = option(0.0, "elastic deformation of the training images: standard deviation in pixels; 0: none")
    seed: int = option(42, "seed of the initial weights, the order of the examples and all noise")


@dataclass(frozen=True)
class Assets:
    """Text files exported with a model.

    labels      class names, ordered by class id; empty without classes
    vocabulary  words, most frequent first; empty for models without text
    """

    labels: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A stage of training. A network without stages trains in a single one.

    begin          model -> description. Freezes or unfreezes layers and compiles the model; the text says what it did
    epochs         passes over the training examples in this stage; 0: none
    learning_rate  step size of the optimizer in this stage
    split          model -> (frozen part, trained part). The output of the frozen part is computed once for each example
                   unless images are augmented
    """

    name: str
    begin: Callable[[Any], str]
    epochs: int = 0
    learning_rate: float = 0.0
    split: Callable[[Any], tuple[Any, Any]] | None = None


@dataclass(frozen=True)
class Claim:
    """A statement about the measured metrics of a network. The results page checks it.

    statement  text that follows the network's name and a colon
    preset     the preset whose runs are meant
    check      records of runs (the network's, then those of `others`) -> (measured values as text, whether the
               statement holds); KeyError names a metric that was not measured
    others     names of the networks to compare with
    """

    statement: str
    check: Callable[..., tuple[str, bool]]
    others: tuple[str, ...] = ()
    preset: str = "quick"


@dataclass(frozen=True)
class Network:
    """One row of a family's table.

    name         name in the registry, folder in the repository, servable, and name in the URL
    task         what the network does: one of TASKS
    summary      one sentence for the model card and `ladle networks`
    config       all hyperparameters with their defaults
    build        config -> compiled keras.Model. The training loop calls only `model.train_step`; a model with several
                 optimizers lists them in `model.optimizers`
    signatures   (model, config, assets) -> exported signatures by name, `serving_default` among them
    example      config -> small batch of inputs of serving_default by name, for warm-up, parity checks and demos
    parameters   number of weights of `build(config)`, trainable or not, without those of optimizer and metrics
    tiny         overrides of config for tests; training takes seconds
    presets      overrides of config by preset name: `quick` (minutes on 2 cores), `full` (the published result)
    source       paper that first described the network
    aim          published result that `full` aims for, with its source; empty if there is none for this data set
    pretrained   config -> name of the published weights that training starts from; empty for none
    restore      (model, tensors by their names in the PyTorch checkpoint) -> None; loads published weights
    stages       config -> stages of training, in order; empty for a single stage
    claims       statements about the measured metrics
    takes        kind of data it reads, if it is not the task's usual kind: "table" (of the user), "points"
    tables       the networks that stand in for this one on a table of the user, by task: classify, regress
    feature_extractor
                 whether its logits are the preferred features for the Fréchet distance of generated images
    trained      whether training changes its weights; False if all are fixed
    leads        preset whose figure stands for the network in lists, once it was measured; else that of `quick`
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
    takes: str = ""
    tables: Mapping[Task, Network] = field(default_factory=dict)
    feature_extractor: bool = False
    trained: bool = True
    leads: str = "quick"

    def configured(self, **overrides: Any) -> Config:
        """Return the config with `overrides`. ValueError for an unknown option, with the known ones."""
        known = {f.name for f in dataclasses.fields(self.config)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise ValueError(
                f"{self.name}: unknown option {', '.join(unknown)}; expected one of {', '.join(sorted(known))}"
            )
        return dataclasses.replace(self.config, **overrides)
