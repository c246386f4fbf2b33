"""Compares two engines on usual and on hard requests: what one refuses, the other has to refuse, too."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import tensorflow as tf

from ladle.training.export.attempts import CrashError
from ladle.training.export.made_up import (
    LIMITS,
    Arrays,
    RandomRequests,
    Specs,
    even_requests,
    hard_requests,
    has_lengths,
    rowless_requests,
    rows_of,
    short_requests,
    with_infinities,
)
from ladle.training.onnx.convert import NotConvertibleError, first_line
from ladle.training.onnx.noise import FLOATS, INTEGERS, STEADY_FLOATS
from ladle.training.onnx.parity import RELATIVE, MismatchError, Parity, Run, Steady, UnsteadyError, compare

LENGTHS = (32, 64, 224, 16, 8, 1)
"""Lengths of free axes other than the batch, tried in turn: a SavedModel does not say which lengths it accepts."""


def compare_usual(
    reference: Run,
    run: Run,
    specs: Specs,
    warm: Sequence[Arrays],
    relative: float = RELATIVE,
    *,
    least: int = 1,
    own_lengths: Callable[[], Sequence[int]] = tuple,
    tell: Callable[[str], None] = lambda text: None,
    steady: Steady | None = None,
) -> tuple[Parity, int, str]:
    """The parity on warm-up requests and random inputs, and what TensorFlow accepted.

    That is the length of free axes, and the integers, of INTEGERS.

    least   the graph refuses images with a shorter side
    own_lengths  gives further lengths to try
    steady  tells rows on which TensorFlow disagrees with itself; None: the graph has jumps

    MismatchError as `compare`, NotConvertibleError if TensorFlow refuses all of these inputs.
    """
    refusal: Exception | None = None
    has_integers = any(spec.dtype.is_integer for spec in specs.values())
    has_floats = any(spec.dtype.is_floating for spec in specs.values())
    floats_of, integers_of = FLOATS if has_floats else FLOATS[:1], INTEGERS if has_integers else INTEGERS[:1]
    lengths = [*LENGTHS, *own_lengths()] if has_lengths(specs) else LENGTHS[:1]
    lengths = [length for length in lengths if length >= least] or [least]
    for floats, integers, length in itertools.product(floats_of, integers_of, lengths):
        requests = RandomRequests(specs, warm, length, integers, floats)
        try:
            found = compare(reference, run, requests, 0, relative, by_spread=True, steady=steady)
            if found.unsteady:
                raise UnsteadyError
        except UnsteadyError:
            tell("TensorFlow's own answers change with the last digit of the inputs; trying others ...")
            return _compare_steady(reference, run, specs, warm, relative, length, integers), length, integers
        except MismatchError:
            raise
        except (tf.errors.OpError, ValueError, TypeError, CrashError) as error:
            # A refusal says more about the inputs that it wants than a crash.
            refusal = error if refusal is None or isinstance(refusal, CrashError) else refusal
        else:
            return dataclasses.replace(found, inputs=requests.rows + sum(map(rows_of, warm))), length, integers
    if warm:
        tell("TensorFlow refuses random inputs; comparing on the warm-up requests alone ...")
        return _compare_real(reference, run, warm, relative), LENGTHS[0], INTEGERS[0]
    if isinstance(refusal, CrashError):
        raise NotConvertibleError(
            "TensorFlow crashes on random inputs of every size; add warm-up requests with real inputs"
        )
    raise NotConvertibleError(
        f"TensorFlow refuses random inputs ({first_line(refusal)}); add warm-up requests with real inputs"
    )


def _compare_steady(
    reference: Run, run: Run, specs: Specs, warm: Sequence[Arrays], relative: float, length: int, integers: str
) -> Parity:
    """The parity on inputs on which every row is steady: a network can be chaotic on random numbers alone.

    Each row has to agree, and each output has to vary: one that is saturated tells little.
    """
    for floats in STEADY_FLOATS:
        requests = RandomRequests(specs, warm, length, integers, floats)
        with contextlib.suppress(tf.errors.OpError, ValueError, TypeError, CrashError):
            found = compare(reference, run, requests, 0, relative, by_spread=True)
            if found.spreads and min(found.spreads.values()) > 0:
                return dataclasses.replace(found, inputs=requests.rows + sum(map(rows_of, warm)))
    raise MismatchError(
        "TensorFlow's own answer changes by more than is allowed when the last digit of an input does, so nothing can "
        "be compared; train the network first, or add warm-up requests with real inputs"
    )


def _compare_real(reference: Run, run: Run, warm: Sequence[Arrays], relative: float) -> Parity:
    """The parity on the warm-up requests alone: some models refuse random inputs, such as edges without nodes."""
    try:
        found = compare(reference, run, warm, 0, relative, by_spread=True)
        return dataclasses.replace(found, inputs=sum(map(rows_of, warm)))
    except MismatchError:
        raise
    except (tf.errors.OpError, ValueError, TypeError, CrashError) as error:
        raise NotConvertibleError(f"TensorFlow refuses the warm-up requests ({first_line(error)})") from error


def compare_hard(
    reference: Run,
    run: Run,
    specs: Specs,
    length: int,
    most: int = LIMITS[-1],
    relative: float = RELATIVE,
    *,
    small: Collection[str] = (),
    with_even: bool = False,
    with_short: bool = True,
    may_refuse_short: bool = False,
    spreads: Mapping[str, float] | None = None,
    is_mixed: bool = False,
    steady: Steady | None = None,
) -> Parity:
    """Compare the engines on values and sizes at which they tend to differ; MismatchError as `compare`.

    most        largest integer in the inputs
    relative    allowed difference of float outputs, relative to their largest magnitude
    small       inputs of few: sizes, and numbers of steps
    with_even   whether to compare on silence, too: zeros, and one value throughout
    with_short  whether free axes are short, too
    may_refuse_short  whether the graph may refuse those: where a window finds no place in an image, TensorFlow goes on
                with an image without pixels, and ONNX Runtime refuses it
    spreads     of the float outputs on usual inputs
    is_mixed    whether hardly two floats of a request are the same
    steady      tells rows on which TensorFlow disagrees with itself

    What TensorFlow refuses, the graph has to refuse, too.
    """
    found = _compare_outcomes(
        reference, run, hard_requests(specs, length, most, small, is_mixed=is_mixed), relative, spreads, steady
    )
    if with_even:
        found = found.joined(_compare_outcomes(reference, run, even_requests(specs, length), relative, spreads, steady))
    if not with_short:
        return found
    short = short_requests(specs)
    return found.joined(
        _compare_outcomes(reference, run, short, relative, spreads, steady, may_refuse=may_refuse_short)
    )


def _compare_outcomes(
    reference: Run,
    run: Run,
    requests: Iterable[Arrays],
    relative: float,
    spreads: Mapping[str, float] | None,
    steady: Steady | None,
    *,
    may_refuse: bool = False,
) -> Parity:
    accepted = []
    for request in requests:
        try:
            reference(request)
        except (tf.errors.ResourceExhaustedError, CrashError):
            continue
        except (tf.errors.OpError, ValueError, TypeError) as error:
            if _accepts(run, request):
                raise MismatchError(f"it answers inputs that TensorFlow refuses: {first_line(error)}") from error
        else:
            if not may_refuse or _accepts(run, request):
                accepted.append(request)
    rows = sum(map(rows_of, accepted))
    return compare(reference, run, accepted, rows, relative, by_spread=True, spreads=spreads, steady=steady)


def is_finite_only(
    reference: Run,
    run: Run,
    specs: Specs,
    length: int,
    least: int,
    integers: str,
    relative: float,
    spreads: Mapping[str, float],
    steady: Steady | None = None,
) -> bool:
    """Whether the engines differ on NaN or infinities, as in a softmax. Servers refuse such values then."""
    if not any(spec.dtype.is_floating for spec in specs.values()):
        return False
    requests = list(with_infinities(specs, length, least, integers))
    try:
        _compare_outcomes(reference, run, requests, relative, spreads, steady)
    except MismatchError:
        return True
    return False


def mixes_rowless(reference: Run, run: Run, specs: Specs, length: int) -> bool:
    """Whether the graph answers inputs without rows beside inputs with rows, and TensorFlow refuses them.

    ONNX Runtime's Concat, for one, passes over tensors without elements.
    """
    for request in rowless_requests(specs, length):
        try:
            reference(request)
        except (tf.errors.OpError, ValueError, TypeError):
            if _accepts(run, request):
                return True
    return False


def _accepts(run: Run, request: Arrays) -> bool:
    try:
        run(request)
    except CrashError:
        return True
    except Exception:  # ONNX Runtime's exceptions have no common base class
        return False
    return True
