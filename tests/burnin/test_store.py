"""The store: rows come back as they went in, one transaction a chunk, and files that are not stores."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace

import numpy as np
import pytest

from yieldkit.burnin.store import STORE_NAME, Store
from yieldkit.burnin.tally import Tally
from yieldkit.burnin.trial import FaultClass, TrialRecord, TrialRow
from yieldkit.errors import BadFile, BadInput
from yieldkit.rng import generator

META = {"identity": {"seed": 1}, "spec": {}, "versions": {}}


def record(k, label="BENIGN"):
    truth = {"kind": "sram_data", "row": np.int64(k), "link": (1, 2, 0, 1), "gone": None, "note": "é\x00"}
    observations = {"loss": ["nan", 1.5], "events": []}
    return TrialRecord(
        k, truth, label, observations, {"final_loss": float("nan"), "top": -math.inf, "n": np.float32(2)}
    )


def chunk(start, stop):
    return start, stop, [record(k).to_row() for k in range(start, stop)]


def test_records_come_back_in_order_with_nan_and_inf(tmp_path):
    path = tmp_path / STORE_NAME
    with Store.writer(path, meta=META) as store:
        assert store.journal_mode == "wal"
        for part in (chunk(6, 8), chunk(0, 4), chunk(4, 6), chunk(10, 11)):
            store.add_chunk(*part, task_fingerprint="t", clean_observations=[{"loss": [1.0]}])
        assert store.covered() == [(0, 8), (10, 11)]
        # A reader beside the writer sees what is committed.
        with Store.reader(path) as reader:
            assert [one.k for one in reader.records()] == [*range(8), 10]
        store.finish()
        assert store.journal_mode == "delete"
    assert sorted(file.name for file in tmp_path.iterdir()) == [STORE_NAME]
    with Store.reader(path) as store:
        back = store.record(3)
        assert back.text() == record(3).text()
        assert math.isnan(back.metrics["final_loss"])
        assert (back.metrics["top"], back.metrics["n"]) == (-math.inf, 2.0)
        assert back.truth["link"] == [1, 2, 0, 1]
        assert store.record(9) is None
        assert store.tally() == Tally({("sram_data", "BENIGN"): 9})
        assert store.rounds(4, below=7) == {
            0: Tally({("sram_data", "BENIGN"): 4}),
            1: Tally({("sram_data", "BENIGN"): 3}),
        }
        assert store.meta("task_fingerprint") == "t"
        assert store.meta("clean_observations") == [{"loss": [1.0]}]
        assert store.meta("nothing") is None


def test_truth_facts_and_label_have_columns_of_their_own(tmp_path):
    with Store.writer(tmp_path / "s", meta=META) as store:
        store.add_chunk(*chunk(0, 1), task_fingerprint="t")
    connection = sqlite3.connect(tmp_path / "s")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(trials)")]
    (seen,) = connection.execute("SELECT observations || metrics FROM trials").fetchone()
    connection.close()
    assert columns == list(TrialRow._fields)
    assert "sram_data" not in seen
    assert "BENIGN" not in seen


def test_a_chunk_is_stored_whole_or_not_at_all(tmp_path):
    with Store.writer(tmp_path / "s", meta=META) as store:
        store.add_chunk(*chunk(0, 4), task_fingerprint="t")
        for wrong in ([record(4).to_row(), record(6).to_row()], [record(4).to_row()]):
            with pytest.raises(ValueError, match="own trials"):
                store.add_chunk(4, 6, wrong, task_fingerprint="t")
        with pytest.raises(BadInput, match="another version"):
            store.add_chunk(*chunk(4, 6), task_fingerprint="other")
        # The range is new, one of its trials is not.
        with pytest.raises(BadFile):
            store.add_chunk(*chunk(3, 5), task_fingerprint="t")
        assert store.covered() == [(0, 4)]
        assert store.tally().n == 4


def test_without_shared_memory_the_journal_is_truncated(tmp_path):
    # The dot-file layer of SQLite has no shared memory, as network file systems have none, and so no write-ahead log.
    with Store.writer(tmp_path / "s", meta=META, vfs="unix-dotfile") as store:
        assert store.journal_mode == "truncate"
        store.add_chunk(*chunk(0, 4), task_fingerprint="t")
    with Store.reader(tmp_path / "s") as store:
        assert store.tally().n == 4


def test_writing_nothing_leaves_the_bytes(tmp_path):
    path = tmp_path / "s"
    with Store.writer(path, meta=META) as store:
        store.add_chunk(*chunk(0, 4), task_fingerprint="t")
        store.finish()
    before = path.read_bytes()
    with Store.reader(path) as store:
        list(store.records())
    assert path.read_bytes() == before


def test_files_that_are_not_stores(tmp_path):
    text = tmp_path / "text"
    text.write_text("not a database, but long enough to be taken for one" * 50)
    empty = tmp_path / "empty"
    empty.touch()
    other = tmp_path / "other"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE meta (key TEXT)")
    connection.close()
    for path, what in (
        (text, "not a campaign or is damaged"),
        (empty, "not stored anything yet"),
        (other, "not a campaign"),
        (tmp_path / "missing", "no campaign here"),
        (tmp_path, "no campaign here"),
    ):
        with pytest.raises(BadFile, match=what):
            Store.reader(path)
    content = text.read_bytes()
    for path in (text, other):
        with pytest.raises(BadFile):
            Store.writer(path, meta=META)
    assert text.read_bytes() == content


def test_a_newer_format_is_refused(tmp_path):
    with Store.writer(tmp_path / "s", meta=META) as store:
        store.set_meta({"format": 99})
    with pytest.raises(BadFile, match="format 99"):
        Store.reader(tmp_path / "s")


def read_all(path):
    with Store.reader(path) as store:
        return [one.text() for one in store.records()]


def test_damage_anywhere_is_seen_or_harmless(tmp_path):
    path = tmp_path / "s"
    with Store.writer(path, meta=META) as store:
        for start in range(0, 200, 4):
            store.add_chunk(*chunk(start, start + 4), task_fingerprint="t")
        store.finish()
    whole, data = read_all(path), path.read_bytes()
    seen = 0
    for at in range(16, len(data) - 8, 997):
        # A letter that any text may hold, so that only the digest can tell.
        path.write_bytes(data[:at] + b"7" * 8 + data[at + 8 :])
        try:
            assert read_all(path) == whole
        except BadFile:
            seen += 1
    assert seen > 20
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadFile, match="damaged"):
        read_all(path)


def test_allocations_and_classes_are_kept_and_another_allocation_is_refused(tmp_path):
    classes = [FaultClass("sram_weights", "sign", "forward", 1 << 70), FaultClass("route", "live", "head", 9)]
    with Store.writer(tmp_path / "s", meta=META) as store:
        plan = {(0, "sram_weights/sign"): 2, (1, "route/live"): 2, (1, "route/unused"): 0}
        store.add_chunk(*chunk(0, 2), task_fingerprint="t", classes=classes, allocation=(0, plan))
        store.add_chunk(*chunk(2, 4), task_fingerprint="t", classes=classes, allocation=(0, plan))
        assert store.classes() == tuple(classes)
        assert store.allocation(0) == {(0, "sram_weights/sign"): 2, (1, "route/live"): 2}
        assert store.allocation(1) is None
        with pytest.raises(BadInput, match="another allocation"):
            store.add_chunk(*chunk(4, 6), task_fingerprint="t", allocation=(0, {(0, "route/live"): 4}))
        assert store.covered() == [(0, 4)]
        store.add_chunk(*chunk(4, 6), task_fingerprint="t", allocation=(1, {(0, "route/live"): 4}))
        assert store.allocations() == {0: store.allocation(0), 1: {(0, "route/live"): 4}}


def test_cells_are_counted_by_class_model_and_weight(tmp_path):
    rows = [replace(record(k, "SDC_BITS"), site="route", bit="live", phase="head", weight=0.5) for k in range(3)]
    rows.append(replace(record(3), site="route", bit="unused", phase="head", weight=2.0))
    with Store.writer(tmp_path / "s", meta=META) as store:
        store.add_chunk(0, 4, [one.to_row() for one in rows], task_fingerprint="t")
        tally = store.tally()
        assert tally == Tally.of(rows)
        assert tally == store.rounds(2, below=4)[0] + store.rounds(2, below=4)[1]
        assert store.record(3).text() == rows[3].text()
    assert sorted((cell.bit, cell.weight, cell.half, count) for cell, count in tally.cells.items()) == [
        ("live", 0.5, 0, 2),
        ("live", 0.5, 1, 1),
        ("unused", 2.0, 1, 1),
    ]


def test_kept_counts_are_the_counts_of_the_rows(tmp_path):
    rng = generator(5, "tests.store.counts")
    rows = [
        replace(record(k, f"L{rng.integers(3)}"), site=f"s{rng.integers(2)}", weight=float(rng.choice([0.5, 1.0])))
        for k in range(60)
    ]
    with Store.writer(tmp_path / "s", meta=META) as store:
        for start in (40, 0, 20):
            store.add_chunk(start, start + 20, [one.to_row() for one in rows[start : start + 20]], task_fingerprint="t")
            assert store.tally() == Tally.of(store.records())
        assert store.tally() == Tally.of(rows)
        late = store.rounds(16, below=60, first=2)
        assert late == {number: tally for number, tally in store.rounds(16, below=60).items() if number >= 2}
        early = store.tally()
        for tally in late.values():
            early = early - tally
        assert early == Tally.of(rows[:32])
        assert store.last == 59


def test_counts_of_a_chunk_that_fails_are_not_kept(tmp_path):
    with Store.writer(tmp_path / "s", meta=META) as store:
        store.add_chunk(*chunk(0, 4), task_fingerprint="t")
        before = store.tally()
        with pytest.raises(BadFile):
            store.add_chunk(*chunk(2, 6), task_fingerprint="t")
        assert store.tally() == before == Tally.of(store.records())


def test_a_full_disk_is_told_and_what_is_committed_stays(tmp_path):
    # SQLite itself says SQLITE_FULL when the file may not grow, as it does when the file system has no room.
    with Store.writer(tmp_path / "s", meta=META) as store:
        store._connection.execute("PRAGMA max_page_count = 40")

        def fill():
            for start in range(0, 4000, 4):
                store.add_chunk(*chunk(start, start + 4), task_fingerprint="t")

        with pytest.raises(BadFile, match="the disk is full; make room"):
            fill()
        stored = store.last + 1
        assert stored > 40
        assert store.covered() == [(0, stored)]
        assert store.tally().n == stored
        store._connection.execute("PRAGMA max_page_count = 4000")
        store.add_chunk(*chunk(stored, stored + 4), task_fingerprint="t")
        assert store.tally() == Tally.of(store.records())
