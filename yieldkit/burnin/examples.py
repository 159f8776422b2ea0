"""Trials to look at: some of each cell of the outcome table, the typical one of each label, and a fault in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from yieldkit.burnin.campaign import CampaignRun
from yieldkit.burnin.store import STORE_NAME, Store
from yieldkit.burnin.trial import TrialRecord

__all__ = ["fault_words", "some_trials", "typical_trials"]

_DEVIATIONS: Final = ("worst_loss_delta", "final_loss_delta", "final_loss")
"""Metrics that say how far a trial went from the clean run; of a record, the first that is there counts."""
_ALL_BITS: Final = 0xFFFFFFFF


def typical_trials(run: CampaignRun, *, metrics: Sequence[str] = _DEVIATIONS) -> dict[str, TrialRecord]:
    """The trial of each label with the median deviation from the clean run, non-finite ones last; ties go to lower k.

    Args:
        run: the run.
        metrics: what deviation is; of a record, the first of these that is there.
    """
    with Store.reader(run.folder / STORE_NAME) as store:
        found = store.median_trials(metrics)
        records = {label: store.record(found[label]) for label in store.tally().by_label() if label in found}
    return {label: record for label, record in records.items() if record is not None}


def some_trials(run: CampaignRun, wanted: Sequence[Mapping[str, str]], *, each: int) -> list[list[TrialRecord]]:
    """The first trials of some cells.

    Args:
        run: the run.
        wanted: cells, each as values of "kind", "label", "site", "bit", "phase" or "model" that its trials have.
        each: at most so many of a cell, in the order of k.

    Returns:
        one list a cell.
    """
    with Store.reader(run.folder / STORE_NAME) as store:
        return [
            [record for k in store.trials_with(cell, limit=each) if (record := store.record(k)) is not None]
            for cell in wanted
        ]


def fault_words(truth: Mapping[str, Any]) -> str:
    """The injected fault in one line: what was done to which word or wire, where and when.

    Args:
        truth: of a record. Fields of `FaultEvent` are put into words, others are listed.
    """
    if "place" not in truth:
        return ", ".join(f"{name} {value}" for name, value in truth.items() if value not in ("", None))
    place = str(truth["place"])
    parts = [_subject(place, truth)]
    if done := _done(place, truth):
        parts[0] += f": {done}"
    if truth.get("tensor", "") == "" or place not in _HOST:
        parts.append(_where(truth))
    launch = f", launch {truth['launch']}" if truth.get("launch") else ""
    parts.append(f"step {truth.get('step', 0)}{launch}" + (", lasting" if truth.get("lasts") else ""))
    return "; ".join(parts)


_HOST: Final = ("memoryx", "stream", "stream_drop")
_PORTS: Final = {0: "port N", 1: "port E", 2: "port S", 3: "port W", 4: "words from the core", 5: "words to the core"}
_NO_WORD: Final = ("slow", "link_drop", "link_duplicate", "link_credit", "link_delay", "stream_drop")


def _subject(place: str, truth: Mapping[str, Any]) -> str:
    def of(name: str) -> Any:
        return truth.get(name, 0)

    step = f"of task {of('task')}, element {of('element')}"
    operand = {0: "D", 1: "A", 2: "B"}.get(of("operand"), "task word")
    wire = f"word {of('nth')} of colour {of('colour')}"
    subjects = {
        "sram": f"SRAM word {of('address')}",
        "route": f"route word of colour {of('colour')}, position {of('position')}",
        "register": f"register {operand}.{of('word')} of task {of('task')}",
        "result": f"result {step}",
        "operand": f"operand {operand} {step}",
        "product": f"product {step}",
        "index": f"loop index {of('word')} of operand {operand}, task {of('task')}",
        "slow": f"core {of('factor'):g} times slower",
        "link_flip": wire,
        "link_drop": f"{wire} dropped",
        "link_duplicate": f"{wire} sent twice",
        "link_credit": f"credit lost at {wire}",
        "link_delay": f"{wire} held up",
        "queue": f"{wire} in the queue of {_PORTS.get(of('port'), of('port'))}",
        "switch": f"switch of colour {of('colour')}",
        "memoryx": f"{truth.get('part', '')} of {truth.get('tensor', '')}, word {of('index')}",
        "stream": f"stream {truth.get('tensor', '')}, word {of('index')}",
        "stream_drop": f"stream {truth.get('tensor', '')} dropped",
    }
    return subjects.get(place, f"{place.replace('_', ' ')}, {wire}")


def _done(place: str, truth: Mapping[str, Any]) -> str:
    mask, keep = int(truth.get("mask", 0)), int(truth.get("keep", _ALL_BITS))
    bits = ", ".join(str(bit) for bit in range(mask.bit_length()) if mask >> bit & 1)
    name = "bits" if "," in bits else "bit"
    if place in _NO_WORD:
        return ""
    if keep == _ALL_BITS:
        return f"{name} {bits} flipped" if mask else ""
    if keep == 0:
        return f"replaced by 0x{mask:08x}" if mask else "replaced by 0"
    held = ", ".join(str(bit) for bit in range(32) if not keep >> bit & 1)
    name = "bits" if "," in held else "bit"
    if mask == 0:
        return f"{name} {held} held at 0"
    if mask & keep == 0 and mask | keep == _ALL_BITS:
        return f"{name} {held} held at 1"
    return f"(old & 0x{keep:08x}) ^ 0x{mask:08x}"


def _where(truth: Mapping[str, Any]) -> str:
    row, col = truth.get("row", 0), truth.get("col", 0)
    drow, dcol = truth.get("drow", 0), truth.get("dcol", 0)
    bypassed = ", bypassed" if truth.get("bypassed") else ""
    if drow or dcol:
        return f"link ({row}, {col}) to ({row + drow}, {col + dcol}){bypassed}"
    return f"core ({row}, {col}){bypassed}"
