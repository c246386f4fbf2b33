"""The page of the GPU's figures."""

from __future__ import annotations

from benchmarks import gpu
from benchmarks.gpu import Served


def test_the_page_has_a_column_for_each_way_to_use_the_gpu() -> None:
    served = [Served(way, "unet", rows, 100.0 * rows, 2.5) for way in gpu.FLAGS for rows in (1, 64)]
    text = gpu.markdown("a card", {"unet": {"float32": 10.0, "bfloat16": 20.0, "bfloat16 with XLA": 30.0}}, served)
    assert "a card." in text
    assert "| `unet` | 10.0 | 20.0 | 30.0 |" in text
    assert f"| model | rows a request | {' | '.join(f'{way}, rows/s (p99, ms)' for way in gpu.FLAGS)} |" in text
    assert "| `unet` | 64 | 6,400 (2.5) | 6,400 (2.5) | 6,400 (2.5) | 6,400 (2.5) |" in text


def test_each_way_is_made_of_flags_of_the_server() -> None:
    from ladle.serving.flag_table import FLAGS

    known = {flag.name for flag in FLAGS}
    named = [word.removeprefix("--").partition("=")[0] for words in gpu.FLAGS.values() for word in words]
    assert named
    assert set(named) <= known
