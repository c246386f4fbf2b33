"""Fashion-MNIST: 70,000 grey pictures of ten kinds of garment (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747).

Debian has a package with all of it; keras.datasets downloads the same pictures from their authors.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ladle.training.data.dataset import Contents
from ladle.training.data.fetch.sources import Debian, Download, File
from ladle.training.data.readers import idx
from ladle.training.data.registry import Entry
from ladle.training.data.sets import synthetic

LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

# Digests of the unpacked files: Debian compresses them differently, but the IDX files inside are equal.
SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"


def _files(folder: str) -> tuple[File, ...]:
    return tuple(File(name, folder + name, digest, unpacked=True) for name, digest in SHA256.items())


def read(path: Path, seed: int) -> Contents:
    """Images uint8 [n, 28, 28, 1], labels int64 [n]; splits as in readers.idx."""
    return idx.read(path, seed, LABELS)


DATASETS = [
    Entry(
        name="fashion_mnist",
        kind="images",
        description="garments in ten classes, 28x28 grey",
        origin="Zalando Research: Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747",
        licence="MIT",
        splits="train 55,000, validation 5,000, test 10,000",
        layout=idx.LAYOUT,
        labels=LABELS,
        read=read,
        generate=partial(synthetic.digits, height=28, width=28, channels=1, classes=10),
        generated_name="synthetic_digits",
        sources=(
            Debian("dataset-fashion-mnist", 30_900_652, _files("usr/share/datasets/fashion-mnist/")),
            Download("original: keras.datasets.fashion_mnist", 30_878_645, _files(KERAS)),
        ),
    )
]
