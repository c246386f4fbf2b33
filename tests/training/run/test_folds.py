from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle import models
from ladle.training.data.pipeline import Prepared
from ladle.training.errors import InterruptedRunError, UsageError
from ladle.training.evaluate.evaluate import Evaluation
from ladle.training.loop import run_folder
from ladle.training.run import folds, session

Ready = Callable[..., tuple[Any, Prepared]]


@pytest.fixture
def prepared(ready: Ready) -> Prepared:
    return ready("house_prices", count=60, folds=4)[1]


def rows(part: Any) -> list[tuple[float, ...]]:
    return [tuple(row) for row in np.asarray(part.x)]


def test_each_example_is_held_out_once_and_the_test_split_never_seen(prepared: Prepared) -> None:
    network = models.get("house_prices")
    dealt = [folds.fold(network, prepared, number) for number in range(4)]
    pool = sorted([*rows(prepared.train), *rows(prepared.validation)])
    assert sorted(row for part in dealt for row in rows(part.test)) == pool
    for part in dealt:
        assert sorted([*rows(part.train), *rows(part.validation), *rows(part.test)]) == pool
        assert not set(rows(part.test)) & set(rows(prepared.test))


def test_targets_stay_with_their_inputs(prepared: Prepared) -> None:
    truth = dict(zip(rows(prepared.train), prepared.train.targets(), strict=True))
    part = folds.fold(models.get("house_prices"), prepared, 1).train
    assert all(truth.get(x, y) == y for x, y in zip(rows(part), part.targets(), strict=True))


def test_the_seed_decides_the_folds(prepared: Prepared, with_config: Callable[..., Prepared]) -> None:
    network = models.get("house_prices")
    first = rows(folds.fold(network, prepared, 0).test)
    assert rows(folds.fold(network, prepared, 0).test) == first
    assert rows(folds.fold(network, with_config(prepared, seed=7), 0).test) != first


def test_an_interrupted_cross_validation_continues_with_the_next_fold(prepared: Prepared, tmp_path: Path) -> None:
    asked: list[Path] = []

    def train_fold(part: Prepared, file: Path) -> Evaluation:
        asked.append(file)
        if len(asked) == 3:
            raise InterruptedRunError("stopped")
        return Evaluation({"price": float(part.test.targets().mean()), "note": "words"})

    def cross_validated(said: list[str]) -> dict[str, Any]:
        with run_folder.opened(tmp_path, "house_prices", {"a": 1}, resume=True, holds=run_folder.DESCRIPTION) as folder:
            return folds.run(models.get("house_prices"), prepared, folder, train_fold, said.append)

    said: list[str] = []
    with pytest.raises(InterruptedRunError):
        cross_validated(said)
    told = cross_validated(said)
    assert [file.parent.name for file in asked] == ["fold-1", "fold-2", "fold-3", "fold-3", "fold-4"]
    each = told["price"]["each"]
    assert (told["count"], len(each)) == (4, 4)
    assert told["price"]["mean"] == pytest.approx(np.mean(each))
    assert told["price"]["deviation"] == pytest.approx(np.std(each, ddof=1))
    assert "note" not in told
    assert said[-1].startswith(f"  folds     price {np.mean(each):.4g} ± ")


@pytest.mark.parametrize("count", [1, 40, -1])
def test_a_wrong_number_of_folds_is_refused(
    count: int, prepared: Prepared, with_config: Callable[..., Prepared]
) -> None:
    with pytest.raises(UsageError, match=rf"got folds {count}; expected 0 \(off\), or 2 to \d+ for \d+ examples"):
        folds.check(with_config(prepared, folds=count))


def test_a_network_is_cross_validated_before_the_exported_one_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {**models.get("house_prices").tiny, "epochs": 2, "folds": 2, "train_limit": 64}
    version = session.run(
        "house_prices",
        overrides=overrides,
        synthetic=True,
        report=False,
        repository=tmp_path / "models",
        runs=tmp_path / "runs",
    )
    told = json.loads((version / "assets.extra" / "card.json").read_text())
    assert told["epochs"] == 2
    for name, figure in told["metrics"]["folds"].items():
        if name != "count":
            assert len(figure["each"]) == 2
            assert np.isfinite(figure["mean"])
    assert {"squared_error", "absolute_error"} < set(told["metrics"]["folds"])
    said = capsys.readouterr().err
    assert said.index("fold 2/2") < said.index("folds     squared_error ") < said.index("test      squared_error")
    assert not list((tmp_path / "runs").rglob("fold-*"))
