"""The type of arrays on the wire and everywhere behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
"""A NumPy array of any dtype and shape; docstrings and parameters say which."""
