"""TensorFlow operations computed by simpler ones, for `decompose`: a module for each field."""

from ladle.training.onnx.decompositions.colours import COLOURS
from ladle.training.onnx.decompositions.elementwise import ELEMENTWISE
from ladle.training.onnx.decompositions.resizing import RESIZING
from ladle.training.onnx.decompositions.searching import SEARCHING
from ladle.training.onnx.decompositions.segments import SEGMENTS
from ladle.training.onnx.decompositions.windows import WINDOWS

DECOMPOSITIONS = {**COLOURS, **ELEMENTWISE, **RESIZING, **SEARCHING, **SEGMENTS, **WINDOWS}
"""TensorFlow operation -> its decomposition."""

FOR_EMPTY = ("Mean",)
"""Decompositions for empty axes alone; our own networks refuse those."""
