"""How much the steps before a graph have to do: few bytes can hold many pixels, a number can ask for many images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ladle.clients.wire.arrays import Array
from ladle.serving.servables.latency import size_of
from ladle.serving.servables.steps.steps import Step

_ROW = 256  # elements that a row of text or of a tf.Example counts besides its bytes: it fills a tensor row, even empty


def counter(steps: Sequence[Step]) -> Callable[[Mapping[str, Array]], int]:
    """A function that counts the elements of a call's inputs, decoded where one of these steps decodes them."""
    images = [step.reads[0] for step in steps if step.op == "decode_image"]
    counts = [step.reads[0] for step in steps if step.op == "normal_noise"]
    rows = [step.reads[0] for step in steps if step.op in ("tokenize", "parse_example")]
    is_on_host = any(step.op == "host" for step in steps)
    if not steps:
        return size_of

    def count(inputs: Mapping[str, Array]) -> int:
        size = size_of(inputs)
        for name in images:
            if name in inputs:
                size += sum([3 * _pixels(data) for data in inputs[name].ravel().tolist()])
        for name in counts:
            # The number of images decides alone: a seed of any size takes no time.
            if name in inputs and inputs[name].size == 1:
                size = abs(int(inputs[name].item()))
        for name in rows:
            if name in inputs:
                size += _ROW * inputs[name].size
        if is_on_host:
            size += _ROW * sum(array.size for array in inputs.values() if array.dtype == object)
        return size

    return count


def _pixels(data: bytes) -> int:
    """Width times height of an encoded image, from its head; 0 if it is not an image that is decoded."""
    from ladle.serving.servables.steps.images import read_size  # imports Pillow, which most models do not need

    size = read_size(data)
    return 0 if size is None else size[0] * size[1]
