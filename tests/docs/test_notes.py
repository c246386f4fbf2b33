"""The guide from the course notes to the code: its two languages agree, its commands work, its numbers are right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ladle import models
from ladle.training.run import session

NOTES = Path(__file__).resolve().parents[2] / "docs" / "notes"
PAGES = {page: (NOTES / page).read_text(encoding="utf-8") for page in ("guide.md", "guide-zh.md")}
TRAINED = list(dict.fromkeys(re.findall(r"^ladle train (\w+)$", PAGES["guide.md"], re.MULTILINE)))


def test_both_languages_have_the_same_chapters_formulas_code_and_pictures() -> None:
    blocks = r"^```(?:python|sh)\n.*?^```$"
    for pattern in (blocks, r"\.\./results/\w+\.png", r"`[^`\n]*(?:Σ|∂|=)[^`\n]*`"):
        english, chinese = (re.findall(pattern, text, re.MULTILINE | re.DOTALL) for text in PAGES.values())
        assert english, pattern
        assert english == chinese
    assert len({text.count("\n## ") for text in PAGES.values()}) == 1
    for text in PAGES.values():  # below each picture of the results stands what to look for
        captions = re.findall(r"^!\[\w+(?:: |：).+\]\(\.\./results/\w+\.png\)\n\n\*.+\*$", text, re.MULTILINE)
        assert len(captions) == len(re.findall(r"\.\./results/\w+\.png", text))
    assert PAGES["guide.md"].count("\n## ") >= 20


def test_the_guide_has_a_network_of_every_family_of_the_course() -> None:
    assert set(TRAINED) <= set(models.names())
    tasks = {models.described(name).task for name in TRAINED}
    assert tasks == set(models.TASKS)


def weights(name: str, **overrides: object) -> int:
    network = models.get(name)
    return int(network.build(network.configured(**overrides)).count_params())


def test_the_numbers_of_weights_are_those_of_the_notes() -> None:
    assert weights("mlp", units=(256, 256, 256)) == 335_114
    assert weights("lenet5") == 61_706
    kernels = {size: size * size for size in (3, 7)}  # of C channels to C channels: size²·C²
    assert (3 * kernels[3], kernels[7]) == (27, 49)
    assert 256 * 256 * 9 == 589_824  # 3×3 on 256 channels: about 600 k
    assert 256 * 64 + 64 * 64 * 9 + 64 * 256 == 69_632  # 1×1 to 64, 3×3, 1×1 back: about 70 k
    for number in ("335,114", "61,706", "27C²", "49C²"):
        assert all(number in text for text in PAGES.values()), number


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_every_command_of_the_guide_trains_and_exports(name: str, tmp_path: Path) -> None:
    """At the tiny size on generated data: the command's network goes from data to a version."""
    where = {"repository": tmp_path / "models", "runs": tmp_path / "runs"}
    version = session.run(name, overrides=dict(models.get(name).tiny), synthetic=True, **where)
    assert (version / "saved_model.pb").is_file()
