"""Compares two engines on hard requests: what one refuses, the other has to refuse, too."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import tensorflow as tf

from ladle.training.export.attempts import CrashError
from ladle.training.export.made_up import (
    LIMITS,
    Arrays,
    Specs,
    even_requests,
    hard_requests,
    rows_of,
    short_requests,
    with_infinities,
)
from ladle.training.onnx.convert import first_line
from ladle.training.onnx.parity import RELATIVE, MismatchError, Parity, Run, compare


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

    What TensorFlow refuses, the graph has to refuse, too.
    """
    found = _compare_outcomes(
        reference, run, hard_requests(specs, length, most, small, is_mixed=is_mixed), relative, spreads
    )
    if with_even:
        found = found.joined(_compare_outcomes(reference, run, even_requests(specs, length), relative, spreads))
    if not with_short:
        return found
    short = short_requests(specs)
    return found.joined(_compare_outcomes(reference, run, short, relative, spreads, may_refuse=may_refuse_short))


def _compare_outcomes(
    reference: Run,
    run: Run,
    requests: Iterable[Arrays],
    relative: float,
    spreads: Mapping[str, float] | None,
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
    return compare(reference, run, accepted, rows, relative, by_spread=True, spreads=spreads)


def is_finite_only(
    reference: Run,
    run: Run,
    specs: Specs,
    length: int,
    least: int,
    integers: str,
    relative: float,
    spreads: Mapping[str, float],
) -> bool:
    """Whether the engines differ on NaN or infinities, as in a softmax. Servers refuse such values then."""
    if not any(spec.dtype.is_floating for spec in specs.values()):
        return False
    try:
        _compare_outcomes(reference, run, list(with_infinities(specs, length, least, integers)), relative, spreads)
    except MismatchError:
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
