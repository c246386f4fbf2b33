"""TensorFlow operations computed by simpler ones, for `decompose`: a module for each field."""

from ladle.training.onnx.decompositions.algebra import ALGEBRA
from ladle.training.onnx.decompositions.colours import COLOURS
from ladle.training.onnx.decompositions.decoding import DECODING
from ladle.training.onnx.decompositions.doubles import DOUBLES
from ladle.training.onnx.decompositions.elementwise import ELEMENTWISE
from ladle.training.onnx.decompositions.factors import FACTORS
from ladle.training.onnx.decompositions.integers import INTEGERS
from ladle.training.onnx.decompositions.lengths import LENGTHS
from ladle.training.onnx.decompositions.random import RANDOM
from ladle.training.onnx.decompositions.resizing import RESIZING
from ladle.training.onnx.decompositions.searching import SEARCHING
from ladle.training.onnx.decompositions.segments import SEGMENTS
from ladle.training.onnx.decompositions.sparse import SPARSE
from ladle.training.onnx.decompositions.special import SPECIAL
from ladle.training.onnx.decompositions.windows import WINDOWS

DECOMPOSITIONS = {
    **ALGEBRA,
    **COLOURS,
    **DECODING,
    **DOUBLES,
    **ELEMENTWISE,
    **FACTORS,
    **INTEGERS,
    **LENGTHS,
    **RANDOM,
    **RESIZING,
    **SEARCHING,
    **SEGMENTS,
    **SPARSE,
    **SPECIAL,
    **WINDOWS,
}
"""TensorFlow operation -> its decomposition."""

FOR_EXTREMES = ("Erfc", "Mean", "Pow", "Prod", "Sigmoid")
"""Decompositions for empty axes, huge products and very small numbers alone: our own networks need none."""
