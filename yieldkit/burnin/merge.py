"""Joining runs of one campaign that were carried out in several folders, as parts or by chance."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from yieldkit.burnin.campaign import SPEC_NAME, CampaignRun, write_if_new
from yieldkit.burnin.folder import keep_inputs, only_writer
from yieldkit.burnin.identity import identity_differences
from yieldkit.burnin.parts import Range, join_ranges
from yieldkit.burnin.spec_file import toml_text
from yieldkit.burnin.store import STORE_NAME, Allocation, Store
from yieldkit.burnin.trial import FaultClass, TrialRow
from yieldkit.errors import BadInput
from yieldkit.files import canonical_json

__all__ = ["Merged", "merge_runs"]

# Trials a transaction: few enough for memory, many enough that a million trials are a thousand of them.
_BLOCK: Final = 1024


@dataclass(frozen=True)
class Merged:
    """What came of a merge.

    Attributes:
        run: the joined run, an ordinary one that can be gone on with.
        added: trials that were not in its folder before.
        shared: trials that more than one of the folders had, and alike.
    """

    run: CampaignRun
    added: int
    shared: int


def merge_runs(
    folders: Sequence[str | Path], out_dir: str | Path, *, benches: Mapping[str, str] | None = None
) -> Merged:
    """Join runs of one campaign into a folder.

    The outcome does not depend on the order of the folders; merging again adds nothing and touches no byte. Nothing is
    written before everything is found to fit; a merge that is killed is completed by the same call.

    Args:
        folders: runs to join, finished or not; they stay as they are.
        out_dir: where to; made when missing. A run that is there already is joined with the others.
        benches: further kinds of bench, for the run that is returned.

    Raises:
        BadInput: the runs are of different campaigns, their benches built different tasks, their rounds were allocated
            otherwise, or a trial differs between two of them.
        BadFile: one of the folders holds no campaign or is damaged, or `out_dir` cannot be written.
    """
    out = Path(out_dir)
    if not folders:
        raise BadInput("there is nothing to merge", cure="name the folders of the runs")
    with ExitStack() as stack:
        places = {Path(folder).resolve(): Path(folder) for folder in folders}
        if _holds_a_run(out):
            # First, so that of equal specs its own is the one that is kept.
            places = {out.resolve(): out, **places}
        sources = [_Source.open(folder, stack) for folder in places.values()]
        for other in sources[1:]:
            _refuse_unlike(sources[0], other)
        allocations = _allocations(sources)
        shared = sum(len(owners) > 1 for _, owners in _joined(sources))
        added, wrote = 0, not _holds_all(out, sources)
        if wrote:
            with only_writer(out):
                added = _write(out, sources, allocations)
    if wrote:
        # Only now that no reader of ours holds the log open.
        with only_writer(out), Store.writer(out / STORE_NAME, meta={}) as store:
            store.finish()
    return Merged(CampaignRun.load(out, benches=benches), added, shared)


@dataclass(frozen=True)
class _Source:
    folder: Path
    store: Store
    identity: Mapping[str, Any]
    task: str
    tables: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path, stack: ExitStack) -> _Source:
        store = stack.enter_context(Store.reader(folder / STORE_NAME))
        task = str(store.meta("task_fingerprint") or "")
        return cls(folder, store, store.meta("identity"), task, store.meta("spec"))

    @property
    def round(self) -> int:
        return int(self.tables["campaign"]["round"])


def _holds_a_run(folder: Path) -> bool:
    path = folder / STORE_NAME
    return path.is_file() and path.stat().st_size > 0


def _refuse_unlike(first: _Source, other: _Source) -> None:
    if differences := identity_differences(first.identity, other.identity):
        cause = "the spec was edited, or overridden with --set, between the runs"
        if len(differences) == 1 and differences[0].startswith("campaign.seed "):
            cause = "two seeds are two campaigns; machines that share one take the same seed and --part"
        raise BadInput(
            f"{first.folder} (there) and {other.folder} (here) hold different campaigns; {'; '.join(differences)}",
            cure=f"likely cause: {cause}",
        )
    if first.task and other.task and first.task != other.task:
        raise BadInput(
            f"{first.folder} and {other.folder} have the same spec, but their benches built different tasks "
            f"({first.task} and {other.task})",
            cure="likely cause: different versions of yieldkit or of its data on the two machines",
        )


def _allocations(sources: Sequence[_Source]) -> dict[int, Allocation]:
    """What each round's strata got, the same in every run that has come to it."""
    found: dict[int, tuple[_Source, Allocation]] = {}
    for source in sources:
        for number, allocation in source.store.allocations().items():
            other, stored = found.setdefault(number, (source, allocation))
            if stored != allocation:
                raise BadInput(
                    f"{other.folder} and {source.folder} allocated round {number} to strata otherwise",
                    cure="likely cause: different versions of yieldkit on the two machines",
                )
    return {number: allocation for number, (_, allocation) in found.items()}


def _joined(sources: Sequence[_Source]) -> Iterator[tuple[TrialRow, list[_Source]]]:
    """Every trial once, in the order of k, and who has it.

    Raises:
        BadInput: two runs have it differently.
    """
    streams = (_numbered(source, number) for number, source in enumerate(sources))
    for k, same in groupby(heapq.merge(*streams, key=lambda found: found[:2]), key=lambda found: found[0]):
        (_, number, row), *others = same
        for _, other, again in others:
            if again != row:
                raise BadInput(
                    f"trial {k} is one thing in {sources[number].folder} and another in {sources[other].folder}",
                    cure=f"find out which with: yieldkit burnin replay {sources[other].folder} --trial {k}",
                )
        yield row, [sources[number], *(sources[other] for _, other, _ in others)]


def _numbered(source: _Source, number: int) -> Iterator[tuple[int, int, TrialRow]]:
    for row in source.store.rows():
        yield row.k, number, row


def _plan(sources: Sequence[_Source]) -> _Source:
    """Whose spec is kept: that with the largest budget, then the first in an order that no folder's place decides."""
    return min(sources, key=lambda one: (-int(one.tables["campaign"]["trials"]), canonical_json(one.tables)))


def _holds_all(out: Path, sources: Sequence[_Source]) -> bool:
    covered = {source.folder.resolve(): source.store.covered() for source in sources}
    union = join_ranges([one for ranges in covered.values() for one in ranges])
    return covered.get(out.resolve()) == union and _plan(sources).folder.resolve() == out.resolve()


def _write(out: Path, sources: Sequence[_Source], allocations: Mapping[int, Allocation]) -> int:
    """Keep what is missing in `out`; returns how many trials that were."""
    plan = _plan(sources)
    campaign = CampaignRun.load(plan.folder).campaign
    kept = keep_inputs(out, campaign.spec, campaign.inputs)
    size = next((source.round for source in sources if source.store.allocations()), 0)
    task, clean, classes = min(
        (_task_facts(source) for source in sources), key=lambda facts: (not facts[0], str(facts))
    )
    meta = {
        "identity": campaign.identity,
        "fingerprint": campaign.fingerprint,
        "spec": kept,
        "versions": plan.store.meta("versions"),
    }
    added = 0
    with Store.writer(out / STORE_NAME, meta=meta) as store:
        store.set_meta({"spec": kept})
        write_if_new(out / SPEC_NAME, toml_text(kept))
        missing = _missing(_joined(sources), store.covered())
        for (_, number), rows in _blocks(missing, size):
            store.add_chunk(
                rows[0].k,
                rows[-1].k + 1,
                rows,
                task_fingerprint=task,
                clean_observations=clean,
                classes=classes,
                allocation=(number, allocations[number]) if size else None,
            )
            added += len(rows)
    return added


def _task_facts(source: _Source) -> tuple[str, Sequence[Mapping[str, Any]], tuple[FaultClass, ...]]:
    return source.task, source.store.meta("clean_observations") or (), source.store.classes()


def _missing(joined: Iterable[tuple[TrialRow, list[_Source]]], have: Sequence[Range]) -> Iterator[TrialRow]:
    """Rows outside the ranges, both in the order of k."""
    ranges = iter(have)
    here = next(ranges, None)
    for row, _ in joined:
        while here is not None and row.k >= here[1]:
            here = next(ranges, None)
        if here is None or row.k < here[0]:
            yield row


def _blocks(rows: Iterable[TrialRow], size: int) -> Iterator[tuple[tuple[int, int], list[TrialRow]]]:
    """Runs of consecutive k, none across the end of a block nor, where `size` is positive, of a round.

    Yields ((number of block, of round), rows).
    """
    block: list[TrialRow] = []
    where = (0, 0)
    for row in rows:
        here = (row.k // _BLOCK, row.k // size if size else 0)
        if block and (here != where or row.k != block[-1].k + 1):
            yield where, block
            block = []
        where = here
        block.append(row)
    if block:
        yield where, block
