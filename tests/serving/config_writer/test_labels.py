"""Where labels point when versions are added, promoted and moved back."""

from __future__ import annotations

from pathlib import Path

import pytest

from ladle.serving.config_writer.labels import LabelRequest, Plan, decide
from ladle.serving.repository.folders import ModelConfig, Policy


def entry(versions: tuple[int, ...], stable: int, canary: int) -> ModelConfig:
    return ModelConfig(
        "m", Path("/models/m"), Policy("specific", versions=versions), {"stable": stable, "canary": canary}
    )


def after(plan: Plan) -> ModelConfig:
    return ModelConfig("m", Path("/models/m"), Policy("specific", versions=plan.versions), plan.labels)


def test_a_new_model_has_both_labels_on_its_newest_version() -> None:
    assert decide([1, 2], None) == Plan((2,), {"stable": 2, "canary": 2})


def test_a_new_version_is_loaded_before_canary_moves_to_it() -> None:
    first = decide([1, 2], entry((1,), 1, 1))
    assert first == Plan((1, 2), {"stable": 1, "canary": 1}, {"canary": 2})
    assert decide([1, 2], after(first)) == Plan((1, 2), {"stable": 1, "canary": 2})


def test_moving_stable_back_needs_no_loading() -> None:
    promoted = decide([1, 2], entry((1, 2), 1, 2), LabelRequest(promote=True))
    assert promoted == Plan((1, 2), {"stable": 2, "canary": 2})
    back = decide([1, 2], after(promoted), LabelRequest(stable=1))
    assert back == Plan((1, 2), {"stable": 1, "canary": 2})


def test_a_version_without_a_label_is_left_out_of_the_next_file() -> None:
    assert decide([1, 2], entry((1, 2), 2, 2)) == Plan((2,), {"stable": 2, "canary": 2})


def test_promotion_leaves_a_newer_version_alone() -> None:
    plan = decide([1, 2, 3], entry((1, 2), 1, 2), LabelRequest(promote=True))
    assert plan == Plan((1, 2), {"stable": 2, "canary": 2})


def test_a_label_whose_version_was_removed_moves_to_a_loaded_one() -> None:
    plan = decide([2, 3], entry((1, 2), 1, 2))
    assert plan == Plan((2, 3), {"canary": 2}, {"stable": 3, "canary": 3})
    assert decide([2, 3], after(plan)) == Plan((2, 3), {"stable": 3, "canary": 3})


def test_a_file_written_by_hand_is_a_starting_point() -> None:
    before = ModelConfig("m", Path("/models/m"), Policy("latest", num_versions=2), {"stable": 1})
    assert decide([1, 2], before) == Plan((1, 2), {"stable": 1, "canary": 2})


@pytest.mark.parametrize("label", ["stable", "canary"])
def test_a_version_that_is_not_there_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match=f"got version 9 for {label}; expected one of 1, 2"):
        decide([2, 1], None, LabelRequest(**{label: 9}))
