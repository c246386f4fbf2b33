"""What the figures of the networks have to show, of each and of one beside another; reached or not as measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]
FASHION = {"mlp": 0.87, "tensor_mlp": 0.60, "googlenet": 0.88, "densenet": 0.88, "densenet121": 0.88, "alexnet": 0.88}
FASHION |= {f"vgg{depth}": 0.88 for depth in (11, 13, 16, 19)}
SENTIMENT = {"sentiment_rnn_cell": 0.78, "sentiment_rnn": 0.78, "sentiment_lstm": 0.82, "sentiment_gru": 0.82}
NORMAL = {"mean": 0.25, "deviation": 0.25, "skewness": 0.5, "excess_kurtosis": 1.0, "correlation": 0.25}
"""How far a moment of codes may be from that of N(0, 1) for them to count as normal; a choice, no test of significance:
with ten thousand codes that would tell the least difference."""


@dataclass(frozen=True)
class Claim:
    """One statement; `found` says what was measured, `reached` is None where it was not measured."""

    statement: str
    found: str
    reached: bool | None


def claims(records: Iterable[Record]) -> list[Claim]:
    """Every statement on records of one kind of run, one a network."""
    by_name = {record["network"]: record for record in records}
    made = [_claim(by_name, *each) for each in _RELATIONS]
    made += [_at_least(by_name, name, least, "fashion_mnist") for name, least in FASHION.items()]
    return made + [_at_least(by_name, name, least, "imdb") for name, least in SENTIMENT.items()]


Judged = tuple[str, bool]


def _claim(
    by_name: Mapping[str, Record], statement: str, names: tuple[str, ...], judge: Callable[..., Judged]
) -> Claim:
    missing = [name for name in names if name not in by_name]
    if missing:
        return Claim(statement, f"no version of {', '.join(missing)}", None)
    try:
        found, reached = judge(*(by_name[name] for name in names))
    except KeyError as error:
        return Claim(statement, f"{error.args[0]} was not measured", None)
    return Claim(statement, found, reached)


def _at_least(by_name: Mapping[str, Record], name: str, least: float, data: str) -> Claim:
    def judge(record: Record) -> Judged:
        if record["data"] != data:
            raise KeyError(f"accuracy on {data}")
        accuracy = record["metrics"]["accuracy"]
        return f"{accuracy:.4f}", accuracy >= least

    return _claim(by_name, f"`{name}`: accuracy on {data} at least {least:.2f}", (name,), judge)


def _minima(descent: Record) -> Judged:
    figures = descent["metrics"]
    found = f"{figures['minima_reached']:.0f} minima, where f is at most {figures['largest_value']:.1e}"
    return found, figures["minima_reached"] == 3 and figures["largest_value"] < 1e-4


def _reconstructed(vae: Record, plain: Record) -> Judged:
    mine, theirs = vae["metrics"]["reconstruction_frechet_distance"], plain["metrics"]["frechet_distance"]
    return f"Fréchet distance {mine:.4g} against {theirs:.4g}", mine < theirs


def _mended(network: Record) -> Judged:
    after, before = network["metrics"]["mended_squared_error"], network["metrics"]["corrupted_squared_error"]
    return f"squared error {after:.4f} against {before:.4f}", after < before


def _normal(network: Record) -> Judged:
    off = network["more"]["code_off_normal"]
    found = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in off.items())
    return found, all(off.get(name, math.inf) <= most for name, most in NORMAL.items())


def _clipped(network: Record) -> Judged:
    largest, bound = network["validation"]["largest_weight"], network["config"]["clip"]
    return f"{largest:.4f}, bound {bound:g}", largest <= bound * (1 + 1e-6)


def _slope(network: Record) -> Judged:
    norm = network["validation"]["gradient_norm"]
    return f"mean norm {norm:.3f} on validation images", abs(norm - 1) <= 0.2


def _iou(better: Record, worse: Record) -> Judged:
    if better["data"] != worse["data"]:
        raise KeyError("IoU on the same data")
    mine, theirs = better["metrics"]["iou"], worse["metrics"]["iou"]
    return f"{mine:.4f} against {theirs:.4f} on {better['data']}", mine >= theirs


_RELATIONS: list[tuple[str, tuple[str, ...], Callable[..., Judged]]] = [
    ("Himmelblau's function: the three starts reach three minima", ("himmelblau",), _minima),
    (
        "Reconstructions of the `vae` are nearer to real images than samples of the plain `autoencoder`",
        ("vae", "autoencoder"),
        _reconstructed,
    ),
    ("`denoising_autoencoder` beats leaving the noise as it is", ("denoising_autoencoder",), _mended),
    ("`dropout_autoencoder` beats leaving the pixels out", ("dropout_autoencoder",), _mended),
    (
        "Codes of the `adversarial_autoencoder` are normal: largest deviation of any dimension from N(0, 1) in mean ≤ "
        f"{NORMAL['mean']:g}, standard deviation ≤ {NORMAL['deviation']:g}, skewness ≤ {NORMAL['skewness']:g}, "
        f"excess kurtosis ≤ {NORMAL['excess_kurtosis']:g}, correlation ≤ {NORMAL['correlation']:g}",
        ("adversarial_autoencoder",),
        _normal,
    ),
    ("`wgan`: the critic's largest weight stays within its bound", ("wgan",), _clipped),
    ("`wgan_gp`: the norm of the critic's gradient is within 0.2 of 1", ("wgan_gp",), _slope),
    ("`fcn16s` is no worse than `fcn32s` in IoU", ("fcn16s", "fcn32s"), _iou),
    ("`fcn8s` is no worse than `fcn16s` in IoU", ("fcn8s", "fcn16s"), _iou),
    ("`unet` is no worse than `fcn8s` in IoU", ("unet", "fcn8s"), _iou),
]
