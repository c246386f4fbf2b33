"""The comparison of JPEG decoders: which are exact beside the server's, and what it prints."""

from __future__ import annotations

import pytest

from benchmarks import decoders
from benchmarks.real.workloads import photograph


def test_only_full_decoding_and_float32_give_the_servers_pixels() -> None:
    largest = {name: difference for name, _, difference, _ in decoders.measure(photograph(1000, 750), rounds=1)}
    exact = {name for name, difference in largest.items() if difference == 0}
    assert {name.split()[0] for name in exact} >= {"the", "Pillow"}
    assert 0.1 < largest["simplejpeg, resized by Pillow at 8 bits"] < 2
    assert largest["simplejpeg decoding at a fraction, resized in float32"] > 1


def test_every_decoder_has_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert decoders.main(["--size", "250x240", "--rounds", "1"]) == 0
    page = capsys.readouterr().out
    for name in decoders.decoders():
        assert f"\n| {name} | " in page


def test_a_wrong_size_is_told_what_was_expected(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        decoders.main(["--size", "500"])
    assert "got '500'; expected width and height, such as 500x375" in capsys.readouterr().err
