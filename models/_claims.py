"""Claims about measured metrics that a family file attaches to its networks; the results page checks them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from ladle.models._network import Claim

Record = Mapping[str, Any]
NORMAL = {"mean": 0.25, "deviation": 0.25, "skewness": 0.5, "excess_kurtosis": 1.0, "correlation": 0.25}
"""Largest deviation of each moment of codes from N(0, 1) for them to count as normal. These bounds are a choice, not a
significance test: with ten thousand codes, a test would reject the smallest deviation."""


def accuracy(least: float, data: str, preset: str = "quick") -> Claim:
    """Accuracy on the data set `data`, or on the user's files of it, is at least `least`."""

    def check(record: Record) -> tuple[str, bool]:
        if record["data"] not in (data, f"own_{data}"):
            raise KeyError(f"accuracy on {data}")
        found = record["metrics"]["accuracy"]
        return f"{found:.4f}", found >= least

    words = "" if preset == "quick" else f" (--preset {preset})"
    bound = f"{least:.2f}" if round(least, 2) == least else f"{least:g}"
    return Claim(f"accuracy on {data} at least {bound}{words}", check, preset=preset)


def fewer_weights_than_dense(units: tuple[int, ...]) -> Claim:
    """The network has fewer weights than dense layers of `units` between the same inputs and outputs."""

    def check(record: Record) -> tuple[str, bool]:
        config = record["config"]
        widths = (config["height"] * config["width"] * config["channels"], *units, config["num_classes"])
        dense = sum((given + 1) * answered for given, answered in itertools.pairwise(widths))
        return f"{record['parameters']:,} against {dense:,}", record["parameters"] < dense

    return Claim(f"fewer weights than dense layers of {', '.join(map(str, units))} units", check)


def small_kernels_save() -> Claim:
    """Three convolutions of 3×3 see 7×7 pixels, with 27C² weights for 49C²."""

    def check(record: Record) -> tuple[str, bool]:
        channels = max(record["config"]["filters"])
        three, one = 3 * 3 * 3 * channels**2, 7 * 7 * channels**2
        return f"27C² = {three:,}, 49C² = {one:,} at C = {channels}", three < one

    return Claim("three 3×3 convolutions have fewer weights than one of 7×7, which sees as many pixels", check)


def bottleneck_saves() -> Claim:
    """1×1 to a quarter of the channels, 3×3, and 1×1 back has fewer weights than 3×3 on all channels."""

    def check(record: Record) -> tuple[str, bool]:
        narrow = max(record["config"]["filters"])
        wide = 4 * narrow
        whole, bottleneck = 9 * wide**2, wide * narrow + 9 * narrow**2 + narrow * wide
        return f"{bottleneck:,} against {whole:,} at {wide} channels", bottleneck < whole

    return Claim("a bottleneck has fewer weights than a 3×3 convolution of as many channels", check)


def iou_not_below(other: str) -> Claim:
    """IoU is not below that of the network `other` on the same data."""

    def check(record: Record, second: Record) -> tuple[str, bool]:
        if record["data"] != second["data"]:
            raise KeyError("IoU on the same data")
        mine, theirs = record["metrics"]["iou"], second["metrics"]["iou"]
        return f"{mine:.4f} against {theirs:.4f} on {record['data']}", mine >= theirs

    return Claim(f"IoU no worse than that of `{other}`", check, (other,))


def reaches_minima(count: int) -> Claim:
    """The starts of the config reach `count` different minima, where the function is below 1e-4."""

    def check(record: Record) -> tuple[str, bool]:
        metrics = record["metrics"]
        found = f"{metrics['minima_reached']:.0f} minima, where f is at most {metrics['largest_value']:.1e}"
        return found, metrics["minima_reached"] == count and metrics["largest_value"] < 1e-4

    return Claim(f"the starts reach {count} different minima", check)


def samples_beat_samples_of(other: str) -> Claim:
    """Samples have a smaller Fréchet distance to real images than samples of the network `other`."""

    def check(record: Record, second: Record) -> tuple[str, bool]:
        mine, theirs = record["metrics"]["frechet_distance"], second["metrics"]["frechet_distance"]
        return f"Fréchet distance {mine:.4g} against {theirs:.4g}", mine < theirs

    return Claim(f"samples are nearer to real images than samples of `{other}`", check, (other,))


def beats_baselines() -> Claim:
    """The headline is better than that of every baseline on the same split."""

    def check(record: Record) -> tuple[str, bool]:
        simple = record["more"]["baselines"]
        name = next(n for n in ("accuracy", "mean_iou", "r_squared", "squared_error") if n in record["metrics"])
        mine, sign = record["metrics"][name], -1 if name == "squared_error" else 1
        found = ", ".join(f"{other} {value:.4g}" for other, value in simple.items())
        return f"{mine:.4g} against {found}", all(sign * mine > sign * value for value in simple.values())

    return Claim("better than every baseline on the same split", check)


def mends(corruption: str) -> Claim:
    """Mended images are nearer to the originals than the corrupted ones."""

    def check(record: Record) -> tuple[str, bool]:
        after, before = record["metrics"]["mended_squared_error"], record["metrics"]["corrupted_squared_error"]
        return f"squared error {after:.4f} against {before:.4f}", after < before

    return Claim(f"mended images are nearer to the originals than images with {corruption}", check)


def normal_codes() -> Claim:
    """Every moment of the codes is within NORMAL."""

    def check(record: Record) -> tuple[str, bool]:
        off = record["more"]["code_off_normal"]
        found = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in off.items())
        return found, all(off.get(name, math.inf) <= most for name, most in NORMAL.items())

    bounds = ", ".join(f"{name.replace('_', ' ')} ≤ {most:g}" for name, most in NORMAL.items())
    return Claim(f"codes are normal: largest deviation of any dimension from N(0, 1): {bounds}", check)


def blur_keeps(share: float) -> Claim:
    """Blurred noise has `share` of its standard deviation: the root of the sum of the kernel's squares."""

    def check(record: Record) -> tuple[str, bool]:
        found = record["metrics"]["noise_after_blur"]
        return f"{found:.3f}", abs(found - share) <= 0.05 * share

    return Claim(f"blurred noise keeps √Σk² = {share:g} of its standard deviation", check)


def near_floor(times: float) -> Claim:
    """The sliced Wasserstein distance to the real points is at most `times` that of training points."""

    def check(record: Record) -> tuple[str, bool]:
        mine, floor = (record["metrics"][f"sliced_wasserstein{end}"] for end in ("", "_floor"))
        return f"{mine:.4f} against {floor:.4f}", mine <= times * floor

    return Claim(f"sliced Wasserstein distance at most {times:g} times that of training points", check)


def weights_within_clip() -> Claim:
    """The critic's largest weight stays within the config's `clip`."""

    def check(record: Record) -> tuple[str, bool]:
        largest, bound = record["validation"]["largest_weight"], record["config"]["clip"]
        # Weights are float32: clipping to 0.01 leaves the nearest float32, slightly above.
        return f"{largest:.4f}, bound {bound:g}", largest <= bound * (1 + 1e-6)

    return Claim("the critic's largest weight stays within its bound", check)


def unit_slope() -> Claim:
    """The mean norm of the critic's gradient is within 0.2 of 1."""

    def check(record: Record) -> tuple[str, bool]:
        norm = record["validation"]["gradient_norm"]
        return f"mean norm {norm:.3f} on the validation split", abs(norm - 1) <= 0.2

    return Claim("the norm of the critic's gradient is within 0.2 of 1", check)
