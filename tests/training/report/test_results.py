from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from ladle import models
from ladle.training import data
from ladle.training.data import OWN
from ladle.training.evaluate import headline
from ladle.training.report import effort, recorded, results, results_page
from ladle.training.report.claims import check
from ladle.training.report.results_page import Entry

README = f"# Ladle\n\n{results.BEGIN}\nold\n{results.END}\n\nend\n"


def card(network: str, **entries: Any) -> dict[str, Any]:
    return {
        "network": network,
        "task": "classify",
        "preset": "quick",
        "data": {
            "name": "fashion_mnist",
            "source": "package: Debian",
            "synthetic": False,
            "splits": {"train": 55_000, "validation": 5_000, "test": 10_000},
        },
        "metrics": {"test": {"accuracy": 0.8876, "features": "words"}, "validation": {"loss": 0.3}},
        "epochs": 5,
        "training_seconds": 65.4,
        "machine": "2 x CPU",
        "parameters": 61_706,
        "onnx": {"model.onnx": {"parity": {"max_abs": 4e-6}, "size_bytes": 250_000}},
        "created": "2026-11-23T03:00:00Z",
        "seed": 42,
        "config": {"epochs": 5, "data": "fashion_mnist", "height": 28},
        **entries,
    }


def record(network: str, **entries: Any) -> dict[str, Any]:
    """A record of a card some of whose entries are given as the record has them."""
    return {**results.record(card(network)), **entries}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model with two versions, the newer one better, and one that was converted."""
    for version, accuracy in ((9, 0.1), (10, 0.9)):
        folder = tmp_path / "models" / "lenet5" / str(version)
        (folder / "assets.extra" / "report").mkdir(parents=True)
        (folder / "variables").mkdir()
        (folder / "saved_model.pb").write_bytes(b"x" * 700)
        (folder / "variables" / "variables.index").write_bytes(b"x" * 300)
        (folder / "model.onnx").write_bytes(b"x" * 5000)
        told = card("lenet5", metrics={"test": {"accuracy": accuracy}, "validation": {}})
        (folder / "assets.extra" / "card.json").write_text(json.dumps(told))
        noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
        Image.fromarray(noise).save(folder / "assets.extra" / "report" / "confusion.png")
    other = tmp_path / "models" / "converted" / "1" / "assets.extra"
    other.mkdir(parents=True)
    (other / "card.json").write_text(json.dumps(card("converted", metrics={})))
    return tmp_path / "models"


def test_the_newest_measured_version_of_each_model_is_recorded(repository: Path) -> None:
    (entry,) = results.records(repository)
    assert entry["metrics"] == {"accuracy": 0.9}
    assert entry["saved_bytes"] == 1000
    assert entry["onnx_bytes"] == 250_000


def test_a_new_record_replaces_only_one_with_the_same_key() -> None:
    old = [record("lenet5", epochs=1), record("lenet5", preset="full"), record("vae")]
    merged = results.merged(old, [record("lenet5", epochs=2)])
    assert [(e["network"], e["preset"], e["epochs"]) for e in merged] == [
        ("lenet5", "full", 5),
        ("lenet5", "quick", 2),
        ("vae", "quick", 5),
    ]


def test_pages_are_written_and_the_rest_of_the_readme_stays(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(README)
    places = ["--readme", "README.md", "--records", "results.json", "--page", "results.md", "--figures", "own.json"]
    places = [str(tmp_path / p) if p.endswith(("md", "json")) else p for p in places]
    assert results.main(["--repository", str(repository), *places]) == 0
    readme = (tmp_path / "README.md").read_text()
    assert "| Convolutional | `lenet5` `alexnet` " in readme
    assert readme.endswith("\n\nend\n")
    assert "old" not in readme
    page = (tmp_path / "results.md").read_text()
    assert "![lenet5: answers by true class](results/lenet5.png)\n\n*Look for the pairs of classes" in page
    assert "| `resnet34` | cifar100 | accuracy 0.7676 on CIFAR-100: " in page
    picture = (tmp_path / "results" / "lenet5.png").read_bytes()
    assert len(picture) <= 160_000
    own = json.loads((tmp_path / "own.json").read_text())
    assert own["lenet5"]["metrics"] == {"accuracy": 0.9}
    assert Image.open(io.BytesIO(picture)).width > 16


def test_the_readme_shows_results_on_public_data_sets_only() -> None:
    mine = record("vgg16", source=f"{OWN}scans", metrics={"accuracy": 1.0})
    readme = results.with_table(README, [record("lenet5", preset="full", metrics={"accuracy": 0.9}), mine])
    assert "| classify images | `lenet5` accuracy 0.9 (fashion_mnist) | 61,706 |" in readme
    files = record("transfer", preset="full", data="own_cifar10", source=f"{OWN}cifar-10", metrics={"accuracy": 0.8})
    assert "| `transfer` accuracy 0.8 (own files, cifar-10) | 61,706 |" in results.with_table(README, [files])
    with pytest.raises(ValueError, match="got a README without"):
        results.with_table("# Ladle\n", [])


def test_the_readme_s_table_has_every_network_once() -> None:
    listed = [name for family in results.FAMILIES for name in family.networks]
    assert sorted(listed) == models.names()
    assert all(name in family.networks for family in results.FAMILIES for name, _, _ in family.shown)


def test_results_on_the_users_own_files_have_no_pictures(repository: Path, tmp_path: Path) -> None:
    file = repository / "lenet5" / "10" / "assets.extra" / "card.json"
    told = json.loads(file.read_text())
    told["data"] |= {"name": "own_mnist", "source": f"{OWN}scans"}
    file.write_text(json.dumps(told))
    (entry,) = results.records(repository)
    assert entry["data"] == "own_mnist"
    assert results_page.write_pictures(repository, [entry], tmp_path / "pictures") == {}
    public = record("lenet5", created="2026-11-22T03:00:00Z", pictures=["lenet5"])
    runs = results_page.page([public, entry], {}, {"lenet5": "results/lenet5.png"}).partition("## Runs")[2]
    assert runs.index("results/lenet5.png") < runs.index("own_mnist")


def test_a_picture_stands_with_the_record_of_its_run_and_with_no_newer_one_on_other_data() -> None:
    boston = record("house_prices", data="boston_housing", pictures=["house_prices"])
    newer = record("house_prices", data="diabetes", created="2026-11-30T03:00:00Z")
    path = {"house_prices": "results/house_prices.png"}
    runs = results_page.page([boston, newer], {}, path).partition("## Runs")[2]
    before, _, after = runs.partition(path["house_prices"])
    assert "### house_prices, quick, boston_housing" in before
    assert "### house_prices, quick, diabetes" in after
    assert path["house_prices"] not in after
    again = recorded.pictured([boston, newer], {"house_prices": recorded.key(newer)})
    assert ["pictures" in entry for entry in again] == [False, True], "its file shows the other run now"
    assert recorded.pictured([boston, newer], {}) == [boston, newer]


def test_the_classes_of_one_folder_have_the_same_names_in_all_its_records() -> None:
    entries = json.loads((Path(__file__).parents[3] / "docs" / "results.json").read_text())
    streets = [list(entry["more"]["class_iou"]) for entry in entries if recorded.own(entry) == "camvid"]
    assert len(streets) == 2
    assert streets[0] == streets[1]
    assert streets[0][:2] == ["sky", "building"]


def test_every_picture_of_the_results_page_has_one_record() -> None:
    root = Path(__file__).parents[3]
    entries = json.loads((root / "docs" / "results.json").read_text())
    named = [name for entry in entries for name in entry.get("pictures", ())]
    assert sorted(named) == sorted(path.stem for path in (root / "docs" / "results").glob("*.png"))


def test_a_network_that_reconstructs_has_a_second_picture_of_its_latent_space(repository: Path, tmp_path: Path) -> None:
    entry = record("lenet5", task="reconstruct", config={})
    report = repository / "lenet5" / "10" / "assets.extra" / "report"
    for name in ("reconstructions", "latent"):
        Image.new("RGB", (40, 30)).save(report / f"{name}.png")
    drawn = results_page.write_pictures(repository, [entry], tmp_path / "results")
    assert drawn == dict.fromkeys(("lenet5", "lenet5-latent"), recorded.key(entry))
    found = results_page.pictures_in(tmp_path / "results")
    assert found == {"lenet5": "results/lenet5.png", "lenet5-latent": "results/lenet5-latent.png"}
    page = results_page.page(recorded.pictured([entry], drawn), {}, found)
    below = page.partition("](results/lenet5.png)\n\n*Look at ")[2]
    assert re.match(r"[^*]+\*\n\n!\[lenet5: left, codes drawn at random, decoded[^]]+\]\([^)]+\)\n\n\*Look for ", below)


def test_metrics_of_the_repository_replace_those_that_come_with_ladle(repository: Path, tmp_path: Path) -> None:
    found = recorded.measured(repository)
    assert found["lenet5"]["version"] == str(repository / "lenet5" / "10")
    assert found["lenet5"]["metrics"] == {"accuracy": 0.9}
    assert recorded.measured(tmp_path / "none") == {n: {**e, "version": None} for n, e in recorded.shipped().items()}
    assert recorded.shipped()["vae"]["metrics"].keys() == {"elbo"}


def test_what_comes_with_ladle_is_measured_on_the_usual_data_set_of_quick() -> None:
    old = record("house_prices", data="boston_housing", created="2026-11-22T03:00:00Z", metrics={"r_squared": 0.8})
    new = record("house_prices", data="diabetes", metrics={"r_squared": 0.5})
    mine = record("unet", source=f"{OWN}scans", metrics={"mean_iou": 0.9})
    full = record("unet", preset="full", created="2026-11-22T03:00:00Z", metrics={"mean_iou": 0.7})
    found = recorded.chosen([old, new, mine, full], {"house_prices": "boston_housing"})
    assert found["house_prices"]["metrics"] == {"r_squared": 0.8}
    assert found["unet"]["metrics"] == {"mean_iou": 0.7}
    led = recorded.chosen([old, new, mine, full], {"house_prices": "boston_housing"}, {full["network"]: "full"})
    assert led[full["network"]]["metrics"] == recorded.headline(full["metrics"])


def test_baselines_of_an_earlier_run_need_its_data_alone() -> None:
    config = {"data": "nuclei", "seed": 3}
    sizes = {"train": 0, "validation": 0, "test": 0}
    told = record("unet", data="synthetic_blobs", synthetic=True, config=config, splits=sizes, more={"note": "kept"})
    assert results.with_baselines(told) == told, "it is split otherwise"
    sizes |= data.load("nuclei", seed=3, synthetic=True).sizes()
    found = results.with_baselines({**told, "splits": sizes})["more"]
    assert found["note"] == "kept"
    assert 0 < found["baselines"]["majority class"] < found["baselines"]["Otsu threshold"] <= 1
    measured = {**told, "splits": sizes, "more": {"baselines": {"Otsu threshold": 0.5}}}
    assert results.with_baselines(measured) == measured
    mine = {**told, "splits": sizes, "source": f"{OWN}scans"}
    assert results.with_baselines(mine) == mine


def test_a_preset_s_training_time_is_not_used_for_another(repository: Path) -> None:
    assert recorded.seconds(repository, "lenet5", "quick") == 65.4
    assert recorded.seconds(repository, "lenet5", "full") is None
    assert recorded.seconds(repository, "unheard", "quick") is None


def test_generated_data_is_called_synthetic_everywhere() -> None:
    entry = record("lenet5", synthetic=True, data="synthetic_digits")
    family = results.Family("Digits", ("lenet5",), "classify", (("lenet5", "synthetic_digits", "quick"),))
    assert "(synthetic_digits (**synthetic**))" in results.row(family, [entry])
    page = results_page.page([entry], {}, {})
    assert "synthetic_digits (**synthetic**)" in page
    assert "data: synthetic_digits, **synthetic**" in page


def test_the_command_has_the_preset_and_what_differs_from_it() -> None:
    presets = {"quick": {"epochs": 5, "filters": [6, 16], "augment": False, "height": 32}}
    entry = record("lenet5", config={"epochs": 7, "filters": [4, 8], "augment": True, "height": 28})
    assert (
        results_page.command(entry, presets) == "ladle train lenet5 --preset quick --epochs 7 --filters 4,8 --augment"
    )
    added = {"quick": {**presets["quick"], "batch_norm": True, "crop": 0}}
    assert results_page.command(entry, added).endswith(" --augment --no-batch-norm"), "it came after the run"
    averaged: dict[str, dict[str, Any]] = {"quick": {**presets["quick"], "averaging": 0.9}, "": {"averaging": 0.0}}
    assert results_page.command(entry, averaged).endswith(" --augment --averaging 0.0"), "it came after the run, too"
    bare = record("lenet5", preset=None, config=None)
    assert results_page.command(bare, presets) == "ladle train lenet5 --preset none"


def test_a_run_without_a_preset_names_what_differs_from_the_network_itself() -> None:
    known = results_page.registered()["transfer"].presets
    entry = {"network": "transfer", "preset": None, "config": {**known[""], "train_limit": 5000, "size": 64}}
    assert results_page.command(entry, known) == "ladle train transfer --preset none --train-limit 5000 --size 64"


def test_multiplications_are_counted_at_every_pixel_of_a_convolution() -> None:
    layers = keras.layers
    model = keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(4, 3, 2), layers.Flatten(), layers.Dense(5)])
    assert effort.multiplications(model) == 3 * 3 * (3 * 3 * 2 * 4) + 3 * 3 * 4 * 5


def test_the_hours_of_a_recipe_without_a_run_are_at_least_those_of_its_multiplications() -> None:
    ran = {
        "data": "fashion_mnist",
        "config": {"data": "fashion_mnist"},
        "splits": {"train": 55_000},
        "machine": "2 x AMD EPYC",
    }
    longest = record("mlp", **ran, epochs=10, seconds=3600)
    others = [
        record("mlp", **ran, epochs=10, seconds=60),
        record("mlp", **{**ran, "machine": "2 x AMD EPYC, 1 of them used"}, epochs=10, seconds=9000),
        record("mlp", **ran, epochs=10, seconds=9000, source=f"{OWN}scans"),
    ]
    epochs = models.get("mlp").presets["full"]["epochs"]
    found = effort.hours([longest, *others], ["mlp", "vae", "transfer"])
    hours = f"at least {epochs / 10:.0f} hours on two cores"
    assert found == {"mlp": hours}, "the others are no classifiers that train from the start"
    page = results_page.page([], results_page.registered(), {}, found)
    assert f"| `full` not run: {hours} |" in page
    assert effort.hours(others[1:], ["mlp"]) == {}


def test_the_hours_of_a_recipe_follow_from_the_seconds_an_image_of_the_network_s_own_run() -> None:
    def hours(*runs: dict[str, Any]) -> float:
        ((name, words),) = effort.hours(runs, ["lenet5"]).items()
        found = re.fullmatch(r"about (\d+) hours at the rate of its own run \(1 x Xeon\)", words)
        assert name == "lenet5"
        assert found, words
        return float(found[1])

    few = {"preset": "full", "epochs": 2, "seconds": 36_000, "machine": "1 x Xeon", "splits": {"train": 11_000}}
    own = record("lenet5", **few, config={"epochs": 2})
    whole = 10 * 55_000 / 11_000 * models.get("lenet5").presets["full"]["epochs"] / 2
    assert hours(own) == whole
    larger = {**own, "config": {"filters": [12, 32]}, "data": "own_cifar10", "source": f"{OWN}c"}
    assert hours(larger) < whole / 2, "the preset's network is a smaller one"
    assert hours(larger, own) == whole, "the run on the preset's own data"
    assert hours(own, record("lenet5", seconds=900_000, data="fashion_mnist", config={})) == whole


def test_the_published_results_say_how_many_epochs_were_trained() -> None:
    known = results_page.registered()
    full = known["lenet5"].presets["full"]["epochs"]
    entry = record("lenet5", preset="full", epochs=3, config=None, metrics={"accuracy": 0.5})
    assert f"| accuracy 0.5 on fashion_mnist with 61,706 weights, 3 of {full} epochs |" in results_page.page(
        [entry], known, {}
    )
    whole = (
        f"| accuracy 0.5 on fashion_mnist with 61,706 weights, 3 of {full} epochs; all: at least 4 hours on two cores |"
    )
    assert whole in results_page.page([entry], known, {}, {"lenet5": "at least 4 hours on two cores"})


def test_a_run_that_was_stopped_has_fewer_epochs_than_it_was_asked_for_in_its_row_and_its_entry() -> None:
    page = results_page.page([record("vgg13", epochs=9, config={"epochs": 200})], {}, {})
    assert "| 61,706 | 9 of 200 | 1:05 |" in page
    assert "- 9 of 200 epochs in 1:05 on 2 x CPU" in page
    patient = results_page.page([record("vgg13", epochs=9, config={"epochs": 200, "patience": 5})], {}, {})
    assert "- 9 epochs in 1:05" in patient, "the recipe itself stopped it"
    assert "- 1 epoch in 1:05" in results_page.page([record("vgg13", epochs=1, config={"epochs": 1})], {}, {})


def test_the_published_figure_is_compared_with_a_run_on_the_preset_s_own_data() -> None:
    known = {"resnet18": Entry("", "fashion_mnist", {}), "vgg13": Entry("", "cifar100", {})}
    runs = [
        record("resnet18", preset="full", metrics={"accuracy": 0.9}),
        record("resnet18", preset="full", data="own_cifar10", source=f"{OWN}c", metrics={"accuracy": 0.5}),
        record("vgg13", preset="full", data="own_cifar100", source=f"{OWN}c", metrics={"accuracy": 0.6}),
        record("vgg13", preset="full", data="own_mnist", source=f"{OWN}m", metrics={"accuracy": 0.8}),
    ]
    page = results_page.page(runs, known, {})
    assert "`ladle train resnet18 --preset full` | accuracy 0.9 on fashion_mnist with 61,706 weights |" in page
    assert "`ladle train vgg13 --preset full` | accuracy 0.6 on own_cifar100 (c) with 61,706 weights |" in page


def test_a_preset_that_was_not_run_has_the_figure_of_another_run_in_its_place() -> None:
    known = {"densenet": Entry("0.95", "cifar10", {}), "transfer": Entry("", "cifar10", {})}
    runs = [
        record("densenet", metrics={"accuracy": 0.9}),
        record("transfer", metrics={"accuracy": 0.8}),
        record("transfer", preset=None, data="own_cifar10", source=f"{OWN}c", metrics={"accuracy": 0.7}),
    ]
    page = results_page.page(runs, known, {}, {"densenet": "at least 8 hours on two cores"})
    other = (
        "accuracy 0.9 on fashion_mnist with 61,706 weights, `quick`; `full` not run: at least 8 hours on two cores |"
    )
    assert f"`ladle train densenet --preset full` | {other}" in page
    assert "| accuracy 0.7 on own_cifar10 (c) with 61,706 weights, own options; `full` not run |" in page


def test_the_table_counts_the_training_examples_that_were_used() -> None:
    page = results_page.page([record("transfer", config={"train_limit": 4_000})], {}, {})
    assert "| 4,000 / 5,000 / 10,000 |" in page
    assert recorded.trained_on(record("transfer", config={"train_limit": 90_000})) == 55_000
    assert recorded.trained_on(record("transfer", config={"train_limit": 0})) == 55_000
    assert recorded.trained_on(record("transfer", splits={})) is None


def test_the_best_baseline_stands_beside_each_headline() -> None:
    both = {"majority class": 0.4, "Otsu threshold": 0.8}
    page = results_page.page([record("unet", metrics={"mean_iou": 0.9}, more={"baselines": both})], {}, {})
    assert "| mean iou 0.9 | Otsu threshold 0.8 |" in page
    pca = {"PCA with 10 components": 0.02, "PCA with 5 components": 0.03}
    assert headline.trivial({"squared_error": 0.01}, pca) == "PCA with 10 components 0.02"
    assert headline.trivial({"elbo": -9.0, "squared_error": 0.01}, pca) == "squared error: PCA with 10 components 0.02"
    distances = {"frechet_distance": 6.6, "frechet_floor": 0.16, "frechet_ceiling": 204.0}
    assert headline.trivial(distances) == "noise 204, training images 0.16"
    assert headline.trivial({"accuracy": 0.5}) == ""


def test_a_baseline_of_one_split_is_not_compared_with_the_mean_over_folds() -> None:
    folds = {"count": 5, "r_squared": {"mean": 0.76, "deviation": 0.04}}
    assert (
        headline.trivial({"r_squared": 0.91}, {"mean": 0.0, "least squares": 0.78}, folds)
        == "least squares 0.78 on a split where the network has 0.91"
    )


def test_the_entry_of_a_cross_validated_network_has_each_fold() -> None:
    squared = {"mean": 3009.1, "deviation": 604.3, "each": [2404.8, 3613.4]}
    folds = {"count": 2, "squared_error": squared, "r_squared": {"mean": 0.76, "deviation": 0.0412}}
    page = results_page.page([record("house_prices", metrics={"r_squared": 0.91}, folds=folds)], {}, {})
    words = "r squared 0.76 ± 0.0412; squared error 3009 ± 604 (2405, 3613)"
    assert f"- 2 folds, mean ± deviation (each): {words}\n- test metrics of one split: r squared 0.91\n" in page
    assert "- test metrics: accuracy" in results_page.page([record("lenet5")], {}, {})
    drawn = record("house_prices", task="regress", folds=folds, pictures=["house_prices"])
    assert "true on one split, which may be a lucky one](x.png)" in results_page.page(
        [drawn], {}, {"house_prices": "x.png"}
    )


def test_a_network_without_trained_weights_has_none_in_the_tables() -> None:
    fixed = [name for name in models.names() if not models.get(name).trained]
    assert fixed == ["filters", "himmelblau"]
    for name in fixed:
        assert not models.get(name).build(models.get(name).config).trainable_weights
    known = {name: Entry("", "fashion_mnist", {}, trained=name != "himmelblau") for name in ("himmelblau", "lenet5")}
    page = results_page.page([record(name, preset="full") for name in known], known, {})
    assert "| 55,000 / 5,000 / 10,000 | — | 5 |" in page
    assert "| `ladle train himmelblau --preset full` | accuracy 0.8876 on fashion_mnist |" in page
    assert page.count("61,706") == 2


def test_presets_that_say_the_same_are_one_row() -> None:
    quick = record("filters", created="2026-11-30T02:00:00Z", epochs=1, config={"epochs": 1, "until": ""})
    full = {**quick, "preset": "full", "created": "2026-11-23T01:00:00Z", "config": {"epochs": 1}}
    page = results_page.page([full, quick], {}, {})
    assert page.count("### filters") == 1
    assert "[`filters`](#filters-quick-fashion_mnist) | quick and full |" in page
    other = {**full, "config": {"epochs": 2}}
    assert results_page.page([other, quick], {}, {}).count("### filters") == 2, "its options differ"
    better = {**full, "metrics": {"accuracy": 0.9}}
    assert results_page.page([better, quick], {}, {}).count("### filters") == 2, "its result differs"


def test_baselines_stand_with_the_metric_that_they_are_measured_in() -> None:
    found = {"elbo": -248.3, "squared_error": 0.016}
    entry = record("vae", metrics=found, more={"baselines": {"PCA with 10 components": 0.02}})
    assert "- baselines, squared error: PCA with 10 components 0.02\n" in results_page.page([entry], {}, {})


def test_runs_on_two_folders_of_the_user_are_two_rows() -> None:
    first, second = (record("unet", data="mask_folder", source=f"{OWN}{name}") for name in ("slices", "my cells"))
    entries = results.merged([first], [second, {**first, "epochs": 9}])
    assert [(recorded.own(entry), entry["epochs"]) for entry in entries] == [("my cells", 5), ("slices", 9)]
    page = results_page.page(entries, {}, {})
    assert "(#unet-quick-mask_folder-my-cells)" in page
    assert '<a id="unet-quick-mask_folder-my-cells"></a>\n### unet, quick, mask_folder (my cells)' in page
    assert "ladle train unet --preset quick --data-path 'my cells'" in page


def test_precision_and_initial_weights_of_a_run_are_shown() -> None:
    told = card("resnet18", precision="mixed_bfloat16", initial={"source": f"{OWN}resnet18 version 3", "sha256": "0"})
    page = results_page.page([results.record(told)], {}, {})
    assert "- started from the weights of resnet18 version 3\n- again: `ladle train resnet18" in page
    assert (
        "ladle train resnet18 --preset quick --initial-weights model_repository/resnet18/3 --precision mixed_bfloat16`"
        in page
    )
    plain = results_page.page([results.record(card("resnet18", precision="float32"))], {}, {})
    assert "started from" not in plain
    assert "--precision" not in plain


def test_the_records_have_the_precision_that_the_page_about_them_says() -> None:
    root = Path(__file__).parents[3] / "docs"
    text = (root / "reading-the-results.md").read_text(encoding="utf-8")
    entries = json.loads((root / "results.json").read_text())
    told = {(e["network"], e["data"], e["preset"]) for e in entries if e.get("precision") == "mixed_bfloat16"}
    assert {("resnet18", "fashion_mnist", "full"), ("unet", "mask_folder", "full")} < told
    commands = re.findall(r"^ladle train resnet18 (?:.*\\\n)*.*", text, re.MULTILINE)
    assert [line.count("--precision mixed_bfloat16") for line in commands] == [1, 1, 1]


def test_a_full_run_stands_beside_the_published_figure() -> None:
    known = {"lenet5": Entry("0.99 on MNIST", "mnist", {}), "vae": Entry("", "fashion_mnist", {})}
    page = results_page.page([record("lenet5", preset="full")], known, {})
    row = "| `lenet5` | mnist | 0.99 on MNIST | `ladle train lenet5 --preset full` | accuracy 0.8876 on "
    assert row in page
    assert "| `vae` | fashion_mnist | nothing published for this network on this data |" in page


def reached(*records: dict[str, Any]) -> dict[str, bool | None]:
    claims = {name: models.get(name).claims for name in models.names()}
    return {checked.statement: checked.reached for checked in check(claims, records)}


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        pytest.param(
            [record("himmelblau", metrics={"minima_reached": 3.0, "largest_value": 1e-9})],
            [record("himmelblau", metrics={"minima_reached": 2.0, "largest_value": 1e-9})],
            "3 different minima",
            id="himmelblau",
        ),
        pytest.param(
            [
                record("vae", metrics={"frechet_distance": 40.0}),
                record("autoencoder", metrics={"frechet_distance": 80.0}),
            ],
            [
                record("vae", metrics={"frechet_distance": 40.0}),
                record("autoencoder", metrics={"frechet_distance": 8.0}),
            ],
            "samples of `autoencoder`",
            id="vae",
        ),
        pytest.param(
            [record("denoising_autoencoder", metrics={"mended_squared_error": 0.02, "corrupted_squared_error": 0.04})],
            [record("denoising_autoencoder", metrics={"mended_squared_error": 0.05, "corrupted_squared_error": 0.04})],
            "images with noise",
            id="denoising",
        ),
        pytest.param(
            [
                record(
                    "adversarial_autoencoder",
                    more={
                        "code_off_normal": dict.fromkeys(
                            ("mean", "deviation", "skewness", "excess_kurtosis", "correlation"), 0.1
                        )
                    },
                )
            ],
            [record("adversarial_autoencoder", more={"code_off_normal": {"mean": 0.1, "deviation": 0.1}})],
            "codes are normal",
            id="codes",
        ),
        pytest.param(
            [record("wgan", validation={"largest_weight": 0.01}, config={"clip": 0.01})],
            [record("wgan", validation={"largest_weight": 0.02}, config={"clip": 0.01})],
            "within its bound",
            id="clipped",
        ),
        pytest.param(
            [record("wgan_gp", validation={"gradient_norm": 0.95})],
            [record("wgan_gp", validation={"gradient_norm": 0.5})],
            "`wgan_gp`: the norm of the critic's gradient",
            id="slope",
        ),
        pytest.param(
            [record("unet", metrics={"iou": 0.9}), record("fcn8s", metrics={"iou": 0.9})],
            [record("unet", metrics={"iou": 0.8}), record("fcn8s", metrics={"iou": 0.9})],
            "`unet`: IoU",
            id="iou",
        ),
        pytest.param(
            [record("unet", metrics={"mean_iou": 0.9}, more={"baselines": {"Otsu threshold": 0.8}})],
            [record("unet", metrics={"mean_iou": 0.9}, more={"baselines": {"Otsu threshold": 0.91}})],
            "`unet`: better than every baseline",
            id="baseline",
        ),
        pytest.param(
            [record("autoencoder", metrics={"squared_error": 0.01}, more={"baselines": {"PCA": 0.02}})],
            [record("autoencoder", metrics={"squared_error": 0.03}, more={"baselines": {"PCA": 0.02}})],
            "`autoencoder`: better than every baseline",
            id="PCA",
        ),
        pytest.param(
            [record("lenet5", config={"height": 28, "width": 28, "channels": 1, "num_classes": 10})],
            [
                record(
                    "lenet5", parameters=335_114, config={"height": 28, "width": 28, "channels": 1, "num_classes": 10}
                )
            ],
            "dense layers of 256, 256, 256",
            id="weights",
        ),
        pytest.param(
            [record("lenet5", preset="mnist", data="own_mnist", metrics={"accuracy": 0.993})],
            [record("lenet5", preset="mnist", data="own_mnist", metrics={"accuracy": 0.99})],
            "at least 0.992 (--preset mnist)",
            id="mnist",
        ),
        pytest.param([record("mlp")], [record("mlp", metrics={"accuracy": 0.86})], "`mlp`: accuracy", id="accuracy"),
    ],
)
def test_a_claim_is_reached_or_not_as_measured(
    good: list[dict[str, Any]], bad: list[dict[str, Any]], words: str
) -> None:
    def about(records: list[dict[str, Any]]) -> list[bool | None]:
        return [answer for statement, answer in reached(*records).items() if words in statement]

    assert about(good) == [True]
    assert about(bad) == [False]
    assert about([]) == [None]


def test_the_numbers_of_weights_are_those_of_the_notes() -> None:
    def found(name: str, config: dict[str, Any]) -> list[str]:
        claims = {name: models.get(name).claims}
        return [checked.found for checked in check(claims, [record(name, config=config)]) if checked.reached]

    digits = {"height": 28, "width": 28, "channels": 1, "num_classes": 10}
    assert "61,706 against 335,114" in found("lenet5", digits)
    assert "69,632 against 589,824 at 256 channels" in found("resnet50", {"filters": [64]})
    assert "27C² = 27, 49C² = 49 at C = 1" in found("vgg13", {"filters": [1]})
    [whole, without] = next(
        each for each in found("googlenet", {"height": 32, "width": 32}) if "against" in each
    ).split(" against ")
    assert whole == "5,997,962"
    assert int(without.replace(",", "")) > 4 * 5_997_962


def test_accuracy_on_other_data_checks_no_claim() -> None:
    assert reached(record("mlp", data="mnist"))["`mlp`: accuracy on fashion_mnist at least 0.87"] is None
