"""Fault map files: round trip, and every kind of damage refused with its line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yieldkit.defects import Poisson
from yieldkit.errors import BadFile
from yieldkit.faultmap import FaultMap
from yieldkit.rng import generator
from yieldkit.wafer import WaferSpec

MINI = WaferSpec.preset("mini")
HEAD = '{"format": "yieldkit-fault-map", "version": 1, '


def _sampled(name: str, seed: int) -> FaultMap:
    wafer = WaferSpec.preset(name)
    return FaultMap.from_defects(wafer, Poisson(d0_per_cm2=0.1).sample(wafer, rng=seed), rng=seed, wafer_id="W01")


@pytest.mark.parametrize("name", ["mini", "wse3"])
def test_round_trip(name: str, tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    for seed in range(10):
        faults = _sampled(name, seed)
        faults.save(path)
        again = FaultMap.load(path, wafer=WaferSpec.preset(name))
        assert again == faults
        assert again.fingerprint == faults.fingerprint
        assert again.outcomes == faults.outcomes
        assert again.notes == faults.notes
        assert again.wafer_name == name
        assert path.stat().st_size < 16_384
    first = path.read_bytes()
    again.save(path)
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(data=st.data())
def test_round_trip_of_any_map(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    rows, cols = data.draw(st.integers(1, 8)), data.draw(st.integers(2, 8))
    site = st.tuples(st.integers(0, rows - 1), st.integers(0, cols - 1))
    dead = data.draw(st.lists(site, unique=True, max_size=5))
    weak = data.draw(st.lists(st.tuples(site, st.floats(0, 1)), unique_by=lambda item: item[0], max_size=5))
    faults = FaultMap(
        (rows, cols),
        dead_cores=dead,
        dead_routers=data.draw(st.lists(site, unique=True, max_size=0 if weak else 3)),
        dead_links=data.draw(st.sampled_from([[], [(0, 0, 0, 1)]])),
        marginal_cores=[(*where, risk) for where, risk in weak if where not in dead],
        wafer_killed=data.draw(st.booleans()),
        wafer_id=data.draw(st.text(max_size=5)),
        notes=data.draw(st.lists(st.text(max_size=5), max_size=2)),
    )
    path = tmp_path_factory.getbasetemp() / "any.json"
    assert FaultMap.load(faults.save(path)) == faults


def test_a_short_file_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "hand.json"
    path.write_text(HEAD + '"shape": [4, 5], "dead_cores": [[1, 2]]}')
    assert FaultMap.load(path) == FaultMap((4, 5), dead_cores=[(1, 2)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: is not JSON: Expecting value; the file is cut short"),
        ("[1]", 'is not a fault map; its first field must be "format": "yieldkit-fault-map"'),
        ('{"format": "other"}', "is not a fault map"),
        ('{"format": "yieldkit-fault-map", "version": 2, "shape": [1, 1]}', "another version than 1, got 2"),
        ('{"format": "yieldkit-fault-map", "version": true}', "another version than 1"),
        (HEAD + '\n"shape": [4]}', "line 2: shape must be two counts"),
        (HEAD + '\n"shape": [4, 5], "dead_core": []}', "'dead_core'; did you mean 'dead_cores'"),
        (HEAD + '"shape": [4, 5], "shape": [4, 5]}', "gives a field twice, got 'shape'"),
        (
            HEAD + '"shape": [4, 5],\n"dead_cores": [[1, 2],\n[1, 9]]}',
            r"line 3: dead_cores\[1\] lies outside the wafer",
        ),
        (HEAD + '"shape": [4, 5],\n"dead_cores": [[1, 2],\n[1, 2]]}', r"line 3: dead_cores\[1\] appears twice"),
        (HEAD + '"shape": [4, 5],\n"dead_cores":\n [1, 2]}', r"line 3: dead_cores\[0\] must be 2 integers, got 1"),
        (HEAD + '"shape": [4, 5],\n"dead_cores": {"a": 1}}', "line 2: dead_cores must be a list"),
        (HEAD + '"shape": [4, 5],\n"absent": [[0, 0]], "dead_cores": [[0, 0]]}', "line 2: .* is an absent site"),
        (HEAD + '"shape": [4, 5],\n"dead_links": [[0, 0, 0, 9]]}', "line 2: .* has an end outside the wafer"),
        (HEAD + '"shape": [4, 5],\n"marginal_cores": [[0, 0, 2]]}', "line 2: .* with risk in 0..1"),
        (HEAD + '"shape": [4, 5],\n"marginal_cores": [[0, 0, NaN]]}', "not finite, got 'NaN'"),
        (HEAD + '"shape": [4, 5],\n"spans": [[2, 0, 5]]}', "one entry for each of the 4 rows, got 2"),
        (HEAD + '"shape": [4, 5],\n"spans": [[9999999, 0, 5]]}', r"line 2: spans\[0\] must be \[count, start, stop\]"),
        (HEAD + '"shape": [4, 5],\n"notes": [1]}', r"line 2: notes\[0\] must be a text"),
        (HEAD + '"shape": [4, 5],\n"wafer_id": 1}', "line 2: wafer_id must be a text"),
        (HEAD + '"shape": [4, 5],\n"wafer_killed": 1}', "line 2: wafer_killed must be true or false"),
        (HEAD + '"shape": [4, 5],\n"outcomes": [[0]]}', r"line 2: outcomes\[0\] must be"),
        (HEAD + '"shape": [99999999, 5]}', "shape must be"),
        (HEAD + '"shape": [4, 5], "dead_cores": ' + "[" * 100_000, "not JSON"),
        (HEAD + '"shape": [4, ' + "9" * 5000 + "]}", "not JSON"),
    ],
)
def test_damage_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(BadFile, match=message) as caught:
        FaultMap.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_another_spec_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    path = _sampled("mini", 1).save(tmp_path / "map.json")
    other = MINI.changed({"machine.queue_depth": 5})
    with pytest.raises(BadFile, match=f"another wafer spec than mini .{other.fingerprint}.") as caught:
        FaultMap.load(path, wafer=other)
    assert MINI.fingerprint in str(caught.value)


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    data = _sampled("mini", 3).save(tmp_path / "map.json").read_bytes()
    path = tmp_path / "cut.json"
    for stop in range(0, len(data.rstrip()), 7):
        path.write_bytes(data[:stop])
        with pytest.raises(BadFile):
            FaultMap.load(path)


def test_every_flipped_bit_is_noticed_or_harmless(tmp_path: Path) -> None:
    faults = _sampled("mini", 3)
    data = faults.save(tmp_path / "map.json").read_bytes()
    path = tmp_path / "flipped.json"
    rng = generator(5, "test.faultmap.flip")
    refused = 0
    for _ in range(600):
        flipped = bytearray(data)
        flipped[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            again = FaultMap.load(path)
        except BadFile:
            refused += 1
        else:
            # White space may change; nothing that the map says may.
            assert again == faults
            assert again.outcomes == faults.outcomes
    assert refused > 400


def test_an_edited_file_says_how_to_go_on(tmp_path: Path) -> None:
    path = _sampled("mini", 3).save(tmp_path / "map.json")
    edited = path.read_text().replace('"wafer_killed": false', '"wafer_killed": true')
    path.write_text(edited)
    with pytest.raises(BadFile, match=r"line \d+: was altered: .* delete the checksum line"):
        FaultMap.load(path)
    path.write_text(re.sub(r',\n "checksum": "\w+"', "", edited))
    assert FaultMap.load(path).wafer_killed


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    content: dict[str, Any] = json.loads(_sampled("wse3", 2).save(tmp_path / "map.json").read_text())
    assert content["format"] == "yieldkit-fault-map"
    assert content["shape"] == [1225, 792]
    assert sum(run[0] for run in content["spans"]) == 1225
