"""Specs from TOML: round trip, and every wrong field named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from yieldkit.errors import BadFile, BadInput, BadSpec
from yieldkit.wafer import WaferSpec, preset_names


@pytest.mark.parametrize("name", preset_names())
def test_toml_round_trip(name: str, tmp_path: Path) -> None:
    wafer = WaferSpec.preset(name)
    path = tmp_path / "spec.toml"
    path.write_text(wafer.to_toml())
    again = WaferSpec.from_toml(path)
    assert again == wafer
    assert again.fingerprint == wafer.fingerprint


def _broken(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    text = WaferSpec.preset("mini").to_toml()
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    path = tmp_path / "spec.toml"
    path.write_text(text)
    return path


def test_every_wrong_field_is_named_with_its_path(tmp_path: Path) -> None:
    path = _broken(
        tmp_path,
        ("diameter_mm = 300.0", 'diameter_mm = "wide"'),
        ("skip_reach = 2", "skip_reech = 2"),
        ("banks = 8", "banks = 0"),
        ('sram = "none"', 'sram = "ecc"'),
        ("col = 5", "col = -5"),
        ("fraction = 0.26", "fraction = nan"),
        ("cols = 18", "cols = true"),
        ("node_nm = 7.0", "node_nm = inf"),
    )
    with pytest.raises(BadSpec) as caught:
        WaferSpec.from_toml(path)
    problems = dict(caught.value.problems)
    assert set(problems) == {
        "diameter_mm",
        "repair.skip_reach",
        "repair.skip_reech",
        "machine.banks",
        "machine.protection.sram",
        "holes[0].col",
        "areas.core_logic.fraction",
        "logical.cols",
        "process.node_nm",
    }
    assert problems["repair.skip_reech"] == "there is no such field; did you mean 'skip_reach'?"
    assert problems["repair.skip_reach"] == "is missing"
    assert "'wide'" in problems["diameter_mm"]
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_contradictions_are_named_together(tmp_path: Path) -> None:
    path = _broken(
        tmp_path,
        ("rows = 20", "rows = 40"),
        ("cols = 18", "cols = 30"),
        ("row = 3", "row = 30"),
        ("fraction = 0.26", "fraction = 0.9"),
        ("banks = 8", "banks = 7"),
        ("reference_size_um = 0.02", "reference_size_um = 0.01"),
    )
    with pytest.raises(BadSpec) as caught:
        WaferSpec.from_toml(path)
    assert {where for where, _ in caught.value.problems} == {
        "holes[0]",
        "logical.rows",
        "logical.cols",
        "areas",
        "machine.banks",
        "process.reference_size_um",
    }


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("enabled_cores = 400", "enabled_cores = 480", "enabled_cores"),
        ("edge_exclusion_mm = 0.0", "edge_exclusion_mm = 150.0", "edge_exclusion_mm"),
        ("edge_exclusion_mm = 0.0", "edge_exclusion_mm = 30.0", "logical.cols"),
        ("core_rows = 11", "core_rows = 1000000", "reticle"),
        ("power_region_rows = 2", "power_region_rows = 23", "areas.power_region_rows"),
    ],
)
def test_single_contradictions(tmp_path: Path, old: str, new: str, where: str) -> None:
    changes = [(old, new)] if where != "reticle" else [(old, new), ("core_cols = 11", "core_cols = 1000000")]
    with pytest.raises(BadSpec) as caught:
        WaferSpec.from_toml(_broken(tmp_path, *changes))
    assert where in dict(caught.value.problems)


def test_what_is_not_toml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text('name = "x"\n[reticle\n')
    with pytest.raises(BadFile, match="line 2"):
        WaferSpec.from_toml(path)
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(BadFile, match="UTF-8"):
        WaferSpec.from_toml(path)
    with pytest.raises(BadFile, match="cannot be read"):
        WaferSpec.from_toml(tmp_path / "missing.toml")
    path.write_text("x = 1979-05-27T07:32:00Z\n")
    with pytest.raises(BadSpec, match=r"x: there is no such field"):
        WaferSpec.from_toml(path)


def test_changed_checks_anew() -> None:
    wafer = WaferSpec.preset("mini")
    safer = wafer.changed({"machine.protection.sram": "secded", "process.d0_per_cm2": 0.2})
    assert safer.protection.sram == "secded"
    assert safer.process.d0_per_cm2 == 0.2
    assert wafer.protection.sram == "none"
    with pytest.raises(BadSpec, match=r"machine\.protection\.sram"):
        wafer.changed({"machine.protection.sram": "ecc"})
    with pytest.raises(BadSpec, match="no such field"):
        wafer.changed({"machin.protection.sram": "none"})


def test_specs_are_frozen() -> None:
    wafer = WaferSpec.preset("mini")
    with pytest.raises(ValueError, match="frozen"):
        wafer.diameter_mm = 200  # type: ignore[misc]


def test_bad_spec_is_bad_input() -> None:
    assert issubclass(BadSpec, BadInput)
