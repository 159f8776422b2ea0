"""Presets: counts that agree with what is published, a source for every number, a fabric that fits."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.wafer.row_shift_oracle import least_shift
from yieldkit.errors import BadInput
from yieldkit.wafer import WaferSpec, preset_names

PRESETS = ("mini", "wse1", "wse2", "wse3")


def test_preset_names() -> None:
    assert preset_names() == PRESETS


@pytest.mark.parametrize(
    ("name", "silicon_mm2", "physical", "enabled", "logical"),
    [
        # Vendor: 46,225 mm2, 400,000 cores; 600 x 595 mesh (columns x rows) in arXiv:2010.03660; about 1 % spare cores.
        ("wse1", 46_225, (400_000, 410_000), 400_000, (595, 600)),
        # Vendor: 850,000 cores; usable fabric 750 x 994 (columns x rows) of the public SDK examples.
        ("wse2", 46_225, (850_000, 860_000), 850_000, (994, 750)),
        # Vendor: 900,000 enabled of 970,000 physical; usable fabric 755 x 1170.
        ("wse3", 46_225, (969_500, 970_500), 900_000, (1170, 755)),
    ],
)
def test_published_counts(
    name: str, silicon_mm2: float, physical: tuple[int, int], enabled: int, logical: tuple[int, int]
) -> None:
    wafer = WaferSpec.preset(name)
    assert wafer.array_mm[0] * wafer.array_mm[1] == pytest.approx(silicon_mm2, rel=1e-6)
    assert physical[0] <= wafer.physical_cores <= physical[1]
    assert wafer.enabled_cores == enabled
    assert wafer.logical_shape == logical
    assert (wafer.reticle.rows, wafer.reticle.cols) == (7, 12)
    assert wafer.machine.sram_words * 4 == 48 * 1024


def test_wse3_disables_seven_percent() -> None:
    wafer = WaferSpec.preset("wse3")
    # 7.2 % of the cores are not enabled: 900,000 of 970,000.
    assert 1 - wafer.enabled_cores / wafer.physical_cores == pytest.approx(0.072, abs=5e-4)
    # A core of about 0.05 mm2, and some 46 defects a wafer at 0.1 per cm2.
    assert wafer.core_area_mm2 == pytest.approx(0.05, abs=0.005)
    assert wafer.process.d0_per_cm2 * wafer.silicon_mm2 / 100 == pytest.approx(46, abs=0.5)


def test_mini_has_the_structure_of_the_large_ones() -> None:
    mini = WaferSpec.preset("mini")
    assert mini.shape == (22, 22)
    assert min(mini.logical_shape) >= 16
    assert len(mini.hole_sites) > 0
    assert mini.spans[0].tolist() == [2, 20]
    assert mini.spares_per_row == 4
    assert mini.spare_rows == 2


@pytest.mark.parametrize("name", PRESETS)
def test_three_counts_differ_and_spares_are_derived(name: str) -> None:
    wafer = WaferSpec.preset(name)
    assert wafer.physical_cores > wafer.enabled_cores > wafer.logical_cores
    assert wafer.spares_per_row == wafer.shape[1] - wafer.logical_shape[1]
    assert wafer.physical_cores == int(wafer.present_mask().sum())


@pytest.mark.parametrize("name", PRESETS)
def test_a_fault_free_wafer_carries_the_standard_fabric(name: str) -> None:
    wafer = WaferSpec.preset(name)
    shift = least_shift(wafer)
    assert shift is not None
    assert 0 < shift.max() <= wafer.spares_per_row


def test_the_oracle_says_no_where_a_hole_is_wider_than_the_reach() -> None:
    mini = WaferSpec.preset("mini")
    wide = mini.changed({"holes": [{"row": 8, "col": 8, "rows": 1, "cols": 2}]})
    assert least_shift(wide) is None
    assert least_shift(wide.changed({"repair.skip_reach": 3, "repair.vertical_reach": 2})) is not None


def _numbers(value: Any, path: str = "") -> list[str]:
    """Dotted paths of every number in nested plain values; an item of a list counts as its list."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return []
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in _numbers(item, f"{path}.{key}".lstrip("."))]
    if isinstance(value, list):
        return [path] if any(_numbers(item, path) for item in value) else []
    return [path]


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_has_a_source_or_says_assumption(name: str) -> None:
    wafer = WaferSpec.preset(name)
    paths = _numbers(wafer.model_dump(mode="json", exclude={"sources"}))
    assert len(paths) > 40
    without = [path for path in paths if wafer.source_of(path) == "given by the user"]
    assert without == []
    known = re.compile(r"assumption|vendor|arXiv|patent|HPDC|Hot Chips|measured|published", re.IGNORECASE)
    assert [path for path in paths if not known.search(wafer.source_of(path))] == []


@pytest.mark.parametrize("name", PRESETS)
def test_no_source_without_a_field(name: str) -> None:
    wafer = WaferSpec.preset(name)
    for path in wafer.sources:
        section: Any = wafer
        for part in path.split("."):
            section = getattr(section, part)


def test_unknown_preset_is_one_line_with_a_hint() -> None:
    with pytest.raises(BadInput, match=r"did you mean 'wse3'\?"):
        WaferSpec.preset("wse-3")
    with pytest.raises(BadInput, match=r"there are: mini, wse1, wse2, wse3"):
        WaferSpec.preset("zzz")


def test_fingerprint_follows_what_matters_only() -> None:
    wafer = WaferSpec.preset("mini")
    assert wafer.changed({"name": "other", "sources": {}}).fingerprint == wafer.fingerprint
    assert wafer.changed({"machine.queue_depth": 5}).fingerprint != wafer.fingerprint
    assert len({WaferSpec.preset(name).fingerprint for name in PRESETS}) == len(PRESETS)
    assert re.fullmatch(r"[0-9a-f]{16}", wafer.fingerprint)


@pytest.mark.parametrize("name", PRESETS)
def test_shows_itself_in_a_notebook(name: str) -> None:
    html = WaferSpec.preset(name)._repr_html_()
    assert name in html
    assert "physical cores" in html
