"""Networks that differ from another in numbers alone: what is costly is done with them in the slow tests only."""

from __future__ import annotations

import pytest

from ladle import models

SIBLINGS = {"densenet121", "resnet34", "vgg13", "vgg16", "vgg19", "fcn16s", "fcn32s"}
SIBLINGS |= {"denoising_autoencoder", "dropout_autoencoder", "efficientnet_lite0"}
DISTINCT = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SIBLINGS else n for n in models.names()]
)
