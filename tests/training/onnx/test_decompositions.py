"""Each decomposition computes what the operation itself computes, with TensorFlow alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ladle.training.onnx.decompose import decompose
from ladle.training.onnx.decompositions import DECOMPOSITIONS
from ladle.training.onnx.decompositions.lengths import LENGTHS

RANDOM = np.random.default_rng(0)
FLOATS = np.array([-9, -1.5, -1, -0.4, -0.0, 0, 0.2, 0.5, 1, 2, 2.5, 30, np.nan, np.inf, -np.inf], np.float32)
COLOURS = np.concatenate([RANDOM.random((20, 3)), [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.2], [1, 0, 0], [0, 1, 1]]])
COLOURS = COLOURS.astype(np.float32)
IMAGE = RANDOM.random((2, 7, 9, 3)).astype(np.float32)
RAW = tf.raw_ops


def projective(mode: str, interpolation: str = "BILINEAR") -> Callable[..., tf.Tensor]:
    transforms = np.array([[0.9, 0.2, -2, -0.1, 1.2, -1.5, 0.01, 0.02], [1, 0, 3.5, 0, 1, -2.5, 0, 0]], np.float32)
    return lambda x: RAW.ImageProjectiveTransformV3(
        images=x,
        transforms=transforms,
        output_shape=[6, 11],
        fill_value=0.25,
        interpolation=interpolation,
        fill_mode=mode,
    )


def scaled(kernel: str, antialias: bool, size: tuple[int, int] = (4, 13)) -> Callable[..., tf.Tensor]:
    def run(x: tf.Tensor) -> tf.Tensor:
        scale = tf.cast(size, tf.float32) / tf.cast(tf.shape(x)[1:3], tf.float32)
        return RAW.ScaleAndTranslate(
            images=x, size=size, scale=scale, translation=[0.0, 0.0], kernel_type=kernel, antialias=antialias
        )

    return run


def bicubic(size: tuple[int, int], **options: bool) -> Callable[..., tf.Tensor]:
    return lambda x: RAW.ResizeBicubic(images=x, size=size, **options)


def pooled(padding: str, batch: bool, n: int) -> Callable[..., tf.Tensor]:
    return lambda x: tf.nn.max_pool_with_argmax(x, [3, 2], [2, 1], padding, include_batch_in_index=batch)[n]


SORTED = np.sort(RANDOM.standard_normal((2, 9)).astype(np.float32), -1)
MIXED = RANDOM.standard_normal((3, 5)).astype(np.float32)
IDS = np.array([[0, 2, -1], [3, 3, 1]], np.int32)
ROWS = RANDOM.standard_normal((2, 3, 4)).astype(np.float32)
POINTS = np.array(np.meshgrid(FLOATS, FLOATS), np.float32).reshape(2, -1).T.copy()
REALS = np.concatenate([np.linspace(-6.3, 40, 80), [0.5, 1, 2, 3, 1e3, 1e6]]).astype(np.float32)
UNITS = np.concatenate([np.linspace(0.001, 0.999, 50), [1e-7, 1e-20, 0.02425, 0.5]]).astype(np.float32)
GRAM = np.eye(4, dtype=np.float32) + RANDOM.random((3, 4, 4)).astype(np.float32)
GRAM = (GRAM @ GRAM.transpose(0, 2, 1))[:, None]
SHIFTED = np.array([1, -7, 2**30, -(2**31), 12345, 255], np.int32)
COUNTS = np.array([0, 31, 33, -1, 5, 8], np.int32)
QUANTIZED = np.array([-9, -3, -1.5, -0.0, 0.1, 1, 2.5, 8, np.nan, np.inf, -np.inf], np.float32)
LARGE = np.array([-1e200, -700, -90, -1, -0.5, -0.0, 0.3, 1, 1.5, 90, 700, 1e120, np.nan, np.inf, -np.inf])
TALL = np.concatenate([RANDOM.standard_normal((3, 4, 3)), np.zeros((1, 4, 3)), np.ones((1, 4, 3))]).astype(np.float32)
TALL[0, 1:, 1] = 0
WIDE = RANDOM.standard_normal((3, 3, 4)).astype(np.float32)
HALVES = np.array([[1, 2, 3, 4.5], [6e4, 6e4, 0, 0], [-6e4, -6e4, 1, 0], [np.nan, 1, 2, 3]], np.float16)


def squared(values: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
    """The square of a symmetric matrix, of its eigenvalues and eigenvectors."""
    return tf.matmul(vectors * values[..., None, :] ** 2, vectors, transpose_b=True)


def of_rank_2(values: tf.Tensor, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    return tf.matmul(left[..., :2] * values[..., None, :2], right[..., :2], transpose_b=True)


CASES: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "upper bound": (
        lambda r, v: tf.searchsorted(r, v, "right"),
        (SORTED, RANDOM.standard_normal((2, 6)).astype(np.float32)),
    ),
    "lower bound": (lambda r, v: tf.searchsorted(r, v), (SORTED, SORTED[:, ::2])),
    "bounds of rows that are not sorted": (lambda r, v: tf.searchsorted(r, v, "right"), (MIXED, MIXED[:, ::-1])),
    "bound of a constant": (lambda v: tf.searchsorted(np.array([-1, 0, 0, 2], np.float32), v), (FLOATS,)),
    "long constant": (lambda v: tf.searchsorted(np.linspace(-3, 3, 100, dtype=np.float32), v), (FLOATS[:-3],)),
    "bucketize": (lambda v: RAW.Bucketize(input=v, boundaries=[-1.0, 0.0, 0.5, 2.0]), (FLOATS,)),
    "bucketize integers": (lambda v: RAW.Bucketize(input=v, boundaries=[-1.5, 0.0, 2.0]), (np.arange(-4, 5),)),
    "many buckets": (lambda v: RAW.Bucketize(input=v, boundaries=list(np.arange(90) / 9.0)), (FLOATS,)),
    "to hsv": (tf.image.rgb_to_hsv, (COLOURS,)),
    "to rgb": (tf.image.hsv_to_rgb, (COLOURS,)),
    "hue": (lambda x: RAW.AdjustHue(images=x, delta=-0.3), (COLOURS[None],)),
    "saturation": (lambda x: RAW.AdjustSaturation(images=x, scale=1.7), (COLOURS[None],)),
    "patches": (
        lambda x: tf.image.extract_patches(x, [1, 3, 2, 1], [1, 2, 1, 1], [1, 1, 2, 1], "SAME"),
        (IMAGE,),
    ),
    "valid patches": (
        lambda x: tf.image.extract_patches(x, [1, 3, 2, 1], [1, 2, 3, 1], [1, 1, 1, 1], "VALID"),
        (IMAGE,),
    ),
    "xlogy": (tf.math.xlogy, (np.array([0, 0, 1, 2], np.float32), np.array([0, np.nan, 2, 0], np.float32))),
    "truncated quotient": (tf.truncatediv, (FLOATS[:12], FLOATS[:12][::-1])),
    "angles": (tf.atan2, (POINTS[:, 0], POINTS[:, 1])),
    "diagonal matrices": (lambda x: tf.linalg.diag(x, padding_value=7), (MIXED[:1],)),
    "shapes": (lambda x: RAW.ShapeN(input=[x, x[0]])[0], (MIXED,)),
    "xdivy": (tf.math.xdivy, (np.array([0, 0, 1, 2], np.float32), np.array([0, np.nan, 2, 0], np.float32))),
    "multiply no nan": (tf.math.multiply_no_nan, (FLOATS, np.where(np.arange(15) % 2, 0, 2).astype(np.float32))),
    "left shift": (lambda x: tf.bitwise.left_shift(x, 5), (np.array([1, -7, 2**30, -(2**31)], np.int32),)),
    "right shift": (lambda x: tf.bitwise.right_shift(x, 3), (np.array([1, -7, 2**30, -(2**31)], np.int32),)),
    "shift of all bits": (tf.bitwise.left_shift, (SHIFTED, COUNTS)),
    "shift back of all bits": (tf.bitwise.right_shift, (SHIFTED, COUNTS)),
    "shift of a byte": (tf.bitwise.right_shift, (SHIFTED.astype(np.uint8), COUNTS.astype(np.uint8))),
    "power": (tf.pow, (SHIFTED, np.abs(COUNTS))),
    "cube": (lambda x: tf.pow(x, 3), (SHIFTED,)),
    "product of all": (tf.reduce_prod, (SHIFTED.reshape(2, 3),)),
    "product of many": (lambda x: tf.reduce_prod(x, 0), (np.arange(-35, 34)[:, None] * [3, 2] + 1,)),
    "product of none": (lambda x: tf.reduce_prod(x, 1), (np.zeros((2, 0), np.int32),)),
    "mean of integers": (lambda x: tf.reduce_mean(x, 1), (np.array([[2**62 + 1, -7, 3], [-(2**60), -1, 2**53]]),)),
    "segments of sorted ids": (tf.math.segment_max, (MIXED, np.array([0, 2, 2], np.int32))),
    "products of sorted ids": (tf.math.segment_prod, (MIXED, np.array([1, 1, 3], np.int32))),
    "means of sorted ids": (tf.math.segment_mean, (MIXED, np.array([0, 0, 2]))),
    "segment product": (lambda x, ids: tf.math.unsorted_segment_prod(x, ids, 4), (ROWS, IDS)),
    "tail": (lambda x: tf.math.log(tf.math.erfc(x)), (np.linspace(-3, 9, 40).astype(np.float32),)),
    **{
        f"{name} of float64": (function, (LARGE,))
        for name, function in {
            "tan": tf.tan,
            "sinh": tf.sinh,
            "cosh": tf.cosh,
            "asinh": tf.asinh,
            "acosh": tf.acosh,
            "atanh": tf.atanh,
        }.items()
    },
    "fake quantization of all": (lambda x: tf.quantization.fake_quant_with_min_max_args(x, -3, 3), (QUANTIZED,)),
    "fake quantization by inputs": (
        lambda x: tf.quantization.fake_quant_with_min_max_vars(x, -1.5, 2.0, 4, True),
        (QUANTIZED,),
    ),
    "cross": (tf.linalg.cross, (COLOURS, COLOURS[::-1])),
    "fake quantization": (
        lambda x: tf.quantization.fake_quant_with_min_max_vars_per_channel(x, [-1.0, 0.1, -3.0], [1.0, 2.0, -0.5]),
        (4 * COLOURS - 2,),
    ),
    "log cumsum of far values": (
        lambda x: tf.math.cumulative_logsumexp(tf.ensure_shape(x, [None, 5]) * 200, 1, reverse=True),
        (MIXED,),
    ),
    "log cumsum": (lambda x: tf.math.cumulative_logsumexp(tf.ensure_shape(x, [None, 5]), 1, exclusive=True), (MIXED,)),
    "products so far": (
        lambda x: tf.math.cumprod(tf.ensure_shape(x, [None, 5]), -1, exclusive=True, reverse=True),
        (MIXED,),
    ),
    "products so far beyond float32": (
        lambda x: tf.math.cumprod(tf.ensure_shape(x, [4, 1])),
        (np.array([[1e-30], [1e-30], [1e30], [1e30]], np.float32),),
    ),
    "mean of no rows": (lambda x: tf.reduce_mean(x, 0), (MIXED[:0],)),
    "mean of rows": (lambda x: tf.reduce_mean(x, [0, -1], keepdims=True), (MIXED,)),
    "area": (lambda x: RAW.ResizeArea(images=x, size=[3, 4]), (IMAGE,)),
    "larger area": (lambda x: RAW.ResizeArea(images=x, size=[10, 20]), (IMAGE,)),
    "bicubic": (bicubic((5, 16), half_pixel_centers=True), (IMAGE,)),
    "bicubic v1": (bicubic((5, 16)), (IMAGE,)),
    "bicubic corners": (bicubic((5, 16), align_corners=True), (IMAGE,)),
    **{
        f"{kernel}{' antialiased' * antialias}": (scaled(kernel, antialias), (IMAGE,))
        for kernel in ("triangle", "box", "keyscubic", "mitchellcubic", "lanczos1", "lanczos3", "lanczos5", "gaussian")
        for antialias in (False, True)
    },
    **{
        f"sorted segment {kind}": (
            lambda x, ids, kind=kind: getattr(tf.math, f"segment_{kind}")(x, ids),
            (MIXED, np.array([1, 1, 4], np.int32)),
        )
        for kind in ("sum", "mean", "max", "min")
    },
    "list difference": (
        lambda x, y: tf.concat(RAW.ListDiff(x=x, y=y), 0),
        (np.array([3, 1, 3, 2, -5], np.int32), np.array([2, 2, 9], np.int32)),
    ),
    "rank": (lambda x: RAW.Rank(input=x) + tf.shape(x), (MIXED,)),
    "sum of integers": (lambda x: tf.add_n([x, x * 2, x - 7]), (IDS,)),
    "fake quantisation": (
        lambda x: tf.quantization.fake_quant_with_min_max_vars(x, -1.0, 2.0, 8),
        (RANDOM.standard_normal((20, 5)).astype(np.float32),),
    ),
    "fake quantisation by numbers": (
        lambda x: tf.quantization.fake_quant_with_min_max_args(x, 0.0, 6.0, 4, narrow_range=True),
        (RANDOM.standard_normal((20, 5)).astype(np.float32) * 4,),
    ),
    "angles of an rfft": (lambda x: tf.math.angle(tf.signal.rfft(x)), (MIXED - 2.0,)),
    "segment sum": (lambda x, ids: tf.math.unsorted_segment_sum(x, ids, 4), (ROWS, IDS)),
    "segment max": (lambda x, ids: tf.math.unsorted_segment_max(x, ids, 5), (ROWS, IDS)),
    "segment min": (lambda x, ids: tf.math.unsorted_segment_min(x, ids, 4), (ROWS, IDS)),
    "sparse sum": (lambda x: tf.sparse.segment_sum(x, [0, 1, 0], [0, 0, 2]), (MIXED,)),
    "sparse mean": (lambda x: tf.sparse.segment_mean(x, [0, 1, 0], [0, 0, 2]), (MIXED,)),
    "sparse sqrt": (lambda x: tf.sparse.segment_sqrt_n(x, [0, 1, 0], [0, 0, 2], num_segments=5), (MIXED,)),
    "sparse product": (
        lambda x: tf.sparse.sparse_dense_matmul(tf.sparse.SparseTensor([[0, 1], [3, 0]], [2.0, 3.0], [4, 3]), x),
        (MIXED,),
    ),
    "lgamma": (tf.math.lgamma, (REALS,)),
    "digamma": (tf.math.digamma, (REALS,)),
    "erfinv": (tf.math.erfinv, (np.append(UNITS * 2 - 1, [1, -1]).astype(np.float32),)),
    "ndtri": (tf.math.ndtri, (UNITS,)),
    "i0e": (tf.math.bessel_i0e, (np.concatenate([REALS, [500, -1e4]]).astype(np.float32),)),
    "solved": (lambda x: tf.linalg.solve(x, x[..., :2] + 1), (GRAM,)),
    "cholesky": (tf.linalg.cholesky, (GRAM,)),
    "triangular": (lambda x: tf.linalg.triangular_solve(x, x[..., :2]), (GRAM,)),
    "upper triangular": (lambda x: tf.linalg.triangular_solve(x, x[..., :2], lower=False, adjoint=True), (GRAM,)),
    "log determinant": (lambda x: tf.linalg.slogdet(x)[1], (GRAM,)),
    "old diagonal": (lambda x: RAW.MatrixSetDiag(input=x, diagonal=x[..., 0]), (GRAM,)),
    "diagonal matrix": (lambda x: RAW.Diag(diagonal=x[0]), (MIXED,)),
    "spaced": (lambda x: RAW.LinSpace(start=x[0, 0], stop=x[1, 1], num=7), (MIXED,)),
    "band": (lambda x: tf.linalg.band_part(x, 1, 0), (np.stack([FLOATS] * 4),)),
    "half of a matrix": (lambda x: tf.linalg.band_part(x, -1, 2), (ROWS,)),
    "norm": (lambda x: RAW.EuclideanNorm(input=x, axis=[1]), (MIXED,)),
    "l2": (tf.nn.l2_loss, (MIXED,)),
    "in top": (
        lambda x: tf.math.in_top_k(tf.constant([0, 4, 9]), x, 2),
        (np.where(MIXED > 1, np.nan, MIXED).astype(np.float32),),
    ),
    "nth": (lambda x: RAW.NthElement(input=x, n=2), (MIXED,)),
    "scatter": (
        lambda x: tf.scatter_nd([[2], [0], [2]], x, [4, 5]),
        (MIXED,),
    ),
    **{
        f"largest and where, {padding.lower()}{' in the batch' * batch}": (pooled(padding, batch, n), (IMAGE,))
        for padding, batch, n in (("VALID", False, 0), ("SAME", False, 1), ("SAME", True, 1))
    },
    "uniform noise": (lambda x: x + tf.random.stateless_uniform(tf.shape(x), [3, -4], -1, 2), (MIXED,)),
    "normal noise": (lambda x: x + tf.random.stateless_normal(tf.shape(x), [2**31 - 1, 7]), (MIXED,)),
    "float64 noise": (lambda x: tf.random.stateless_normal(tf.shape(x), [1, 2], dtype=tf.float64), (MIXED,)),
    "integer noise": (lambda s: tf.random.stateless_uniform([7], s, -5, 90, tf.int32), (np.array([5, -9]),)),
    "noise of all bits": (
        lambda s: tf.random.stateless_uniform([9], s, None, None, tf.int32),
        (np.array([2**40, -(2**50)]),),
    ),
    "old noise": (
        lambda s: RAW.StatelessRandomUniform(shape=[6], seed=s),
        (np.array([-1, 0]),),
    ),
    "histogram": (lambda x: tf.histogram_fixed_width(x, [-2.0, 2.0], 5), (FLOATS[:12],)),
    "dilation": (lambda x: tf.nn.dilation2d(x, IMAGE[0, :3, :2], [1, 2, 1, 1], "SAME", "NHWC", [1, 1, 2, 1]), (IMAGE,)),
    "valid dilation": (
        lambda x: tf.nn.dilation2d(x, IMAGE[0, :3, :2], [1, 1, 2, 1], "VALID", "NHWC", [1, 1, 1, 1]),
        (IMAGE,),
    ),
    **{
        f"projective {mode.lower()}": (projective(mode), (IMAGE,))
        for mode in ("CONSTANT", "NEAREST", "REFLECT", "WRAP")
    },
    "rfft": (lambda x: tf.abs(tf.signal.rfft(x)), (MIXED,)),
    "rfft of fewer values": (lambda x: tf.math.real(tf.signal.rfft(x, [4])), (MIXED,)),
    "rfft of more values": (lambda x: tf.math.imag(tf.signal.rfft(x, [8])), (MIXED,)),
    "irfft": (lambda x: tf.signal.irfft(tf.signal.rfft(x, [6]), [6]), (MIXED,)),
    "irfft of an odd number": (lambda x: tf.signal.irfft(tf.signal.rfft(x, [5]), [5]), (MIXED,)),
    "ifft": (lambda x: tf.math.angle(tf.signal.ifft(tf.complex(x + 3.0, x))), (MIXED,)),
    "fft2d": (lambda x: tf.abs(tf.signal.fft2d(tf.cast(x, tf.complex64))), (MIXED,)),
    "complex products": (
        lambda x: tf.abs(tf.math.conj(tf.complex(x, -x)) * tf.complex(x, x) / 2.0 - tf.complex(x, 1 + x)),
        (MIXED,),
    ),
    "complex shapes": (
        lambda x: tf.math.real(tf.concat([tf.transpose(tf.complex(x, x))[:2], tf.zeros([1, 3], tf.complex64)], 0)),
        (MIXED,),
    ),
    "dct": (lambda x: tf.signal.dct(x, norm="ortho"), (MIXED,)),
    "stft": (lambda x: tf.abs(tf.signal.stft(x, 8, 4, 16)), (RANDOM.standard_normal((2, 40)).astype(np.float32),)),
    "inverse stft": (
        lambda x: tf.signal.inverse_stft(tf.signal.stft(x, 8, 4), 8, 4),
        (RANDOM.standard_normal((2, 40)).astype(np.float32),),
    ),
    "nearest projective": (projective("CONSTANT", "NEAREST"), (IMAGE,)),
    "eigenvalues": (lambda x: tf.linalg.eigvalsh(tf.ensure_shape(x, [None, 3, 3])), (TALL[:, :3],)),
    "eigenvalues of a matrix": (lambda x: tf.linalg.eigvalsh(tf.ensure_shape(x, [3, 3])), (TALL[2, :3],)),
    "powers of matrices": (lambda x: squared(*tf.linalg.eigh(tf.ensure_shape(x, [None, 3, 3]))), (TALL[:, :3],)),
    "singular values": (
        lambda x: tf.linalg.svd(tf.ensure_shape(x, [None, 4, 3]), compute_uv=False),
        (TALL,),
    ),
    "matrices of rank 2": (lambda x: of_rank_2(*tf.linalg.svd(tf.ensure_shape(x, [None, 3, 4]))), (WIDE,)),
    "log gamma of float64": (tf.math.lgamma, (np.linspace(-3.7, 30, 60),)),
    "digamma of float64": (tf.math.digamma, (np.linspace(-3.7, 30, 60),)),
    "finite float16": (tf.math.is_finite, (np.array([1, np.inf, -np.inf, np.nan], np.float16),)),
    "infinite float16": (tf.math.is_inf, (np.array([1, np.inf, -np.inf, np.nan], np.float16),)),
    "mean of float16": (lambda x: tf.reduce_mean(tf.ensure_shape(x, [None, 4]), 1), (HALVES,)),
}


QUICK = (
    "shift of all bits",
    "power",
    "product of many",
    "segments of sorted ids",
    "asinh of float64",
    "bounds of rows that are not sorted",
    "bucketize",
    "to hsv",
    "bicubic",
    "lanczos3 antialiased",
    "segment sum",
    "stft",
    "normal noise",
    "largest and where, same",
    "matrices of rank 2",
    "mean of float16",
)
EACH = [pytest.param(*case, marks=() if name in QUICK else pytest.mark.slow, id=name) for name, case in CASES.items()]


@pytest.mark.parametrize(("function", "arrays"), EACH)
def test_a_decomposition_computes_what_the_operation_computes(
    function: Callable[..., Any], arrays: tuple[Any, ...]
) -> None:
    specs = [tf.TensorSpec([None] * a.ndim if a.ndim < 4 else [None, None, None, a.shape[3]], a.dtype) for a in arrays]
    graph = tf.function(function, input_signature=specs).get_concrete_function()
    replaced = decompose(graph.graph.as_graph_def(), DECOMPOSITIONS)
    left = {node.op for node in [*replaced.node, *(n for f in replaced.library.function for n in f.node_def)]}
    inputs, outputs = [t.name for t in graph.inputs], [t.name for t in graph.outputs]
    made = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(replaced, name=""), [])
    pruned = made.prune(inputs, outputs)
    found = pruned(*map(tf.constant, arrays))[0].numpy()
    used = {op.type for op in pruned.graph.get_operations()}
    # Of other dtypes, of sizes, and within their limits.
    used -= {
        *LENGTHS,
        "Einsum",
        "TruncateDiv",
        "Prod",
        "Maximum",
        "Minimum",
        "Pow",
        "LeftShift",
        "RightShift",
        "UnsortedSegmentProd",
        "Where",
        "IsFinite",
        "IsInf",
    }
    assert not used & {*DECOMPOSITIONS, "RFFT", "IRFFT", "FFT", "IFFT", "FFT2D", "Complex"}, left
    expected = function(*map(tf.constant, arrays)).numpy()
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)
