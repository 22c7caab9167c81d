"""The benchmark of adversarial variants: each can be built and differs, and a row says what stopped a training."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest

from augment.training import build_model

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts that import each other by their plain names
import adversarial_variants as variants
from _measured_sections import SWITCHES
from _measured_sections import variants as variants_section


def cell(seed: int, accuracy: float | None, stopped: str | None = None) -> dict[str, object]:
    """What a training of the default left."""
    figures = {name: {"value": accuracy, "floor": 0.8} for name in variants.FIGURES}
    asked = {"variant": "gan", "kind": "gan", "settings": {}, "seed": seed, "minutes": 5.0}
    return asked | figures | dict.fromkeys(variants.COSTS, 1000.0) | {"stopped": stopped, "training_rows": 5000}


def test_every_variant_can_be_built_and_differs_from_the_others() -> None:
    configs = [variants.config_of(name) for name in variants.VARIANTS]
    for config in configs:
        build_model(config, variants.SPEC, 0)
    assert len({config.model_dump_json() for config in configs}) == len(configs)


def test_a_training_that_stopped_itself_is_counted_with_its_reason() -> None:
    row = variants.summarised([cell(0, 0.4), cell(1, 0.6, "the critic has run away.")])
    assert row["accuracy"] == {"mean": 0.5, "se": 0.1, "floor": 0.8}
    assert row["ratio"] == 0.625
    assert row["stopped"] == ["the critic has run away."]


def test_the_page_has_the_best_variant_first_and_says_what_stopped_another() -> None:
    best = variants.summarised([cell(0, 0.7)])
    other = variants.summarised(
        [{**cell(0, 0.4, "The critic has run away."), "variant": "bare", "settings": {"r1": 0}}]
    )
    document = {"machine": {"cpu": "a CPU"}, "versions": {"torch": "2.0"}, "rows": [other, best]}
    text = variants_section(document)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[2] == "| *real rows* |  | 0.80 | 0.800 | 0.80 | 0.800 | 0.800 |  |"
    assert lines[3] == "| **gan** | `kind: gan` | 0.70 | 0.700 | 0.70 | 0.700 | 0.700 | 1,000 |"
    assert lines[4].startswith("| bare | `kind: gan, r1: 0` | 0.40 |")
    assert lines[4].endswith(" | 1,000 † |")
    assert "- bare: The critic has run away." in text
    assert variants_section({"rows": []}) == ""


def test_the_page_says_what_each_switch_changes_of_two_variants() -> None:
    assert {name for pair in SWITCHES.values() for name in pair} <= set(variants.VARIANTS)
    measured = {"no R1, no R2": 0.8, "no R2": 0.4, "gan": 0.6}
    rows = [
        variants.summarised([{**cell(0, figure, "lost" if figure == 0.8 else None), "variant": name}])
        for name, figure in measured.items()
    ]
    text = variants_section({"machine": {"cpu": "a CPU"}, "versions": {"torch": "2.0"}, "rows": rows})
    assert "with 1 seed, a small difference is no evidence" in text
    assert text.splitlines()[-2:] == [
        "| R1 | 0.80 → 0.40 | 0.80 → 0.40 | 1,000 † → 1,000 | 0.50x |",
        "| R2 besides R1 | 0.40 → 0.60 | 0.40 → 0.60 | 1,000 → 1,000 | 1.50x |",
    ]


def test_a_variant_that_drew_nothing_is_absent_with_its_reason() -> None:
    lost = {**cell(0, None), "absent": "the loss became nan."}
    row = variants.summarised([lost])
    assert (row["absent"], row["ratio"]) == ("the loss became nan.", None)


def test_an_image_is_halved_to_the_rounded_means_of_two_by_two_pixels() -> None:
    pixels = np.zeros((2, 28, 28), np.uint8)
    pixels[0, :2, :2] = [[10, 20], [31, 40]]  # 25.25
    pixels[0, 2:4, 26:] = [[255, 255], [255, 254]]  # 254.75
    pixels[1, 26, 1] = 200
    expected = np.zeros((2, 14, 14), np.uint8)
    expected[0, 0, 0], expected[0, 1, 13], expected[1, 13, 0] = 25, 255, 50
    found = variants.halved(pixels)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_shares_of_the_cells_are_numbered_from_zero() -> None:
    assert variants.share("2/14") == (2, 14)
    for text in ("14/14", "1", "a/3"):
        with pytest.raises(argparse.ArgumentTypeError, match="write K/N"):
            variants.share(text)
