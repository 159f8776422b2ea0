"""A campaign: a spec, the folder that its run fills, and any single trial again."""

from __future__ import annotations

import json
import platform
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pydantic import ValidationError

from yieldkit.burnin.executors import MakeExecutor
from yieldkit.burnin.folder import keep_inputs, only_writer, writer_is_alive
from yieldkit.burnin.identity import FileInput, identity_differences, identity_of, read_inputs
from yieldkit.burnin.parts import Part, join_ranges
from yieldkit.burnin.runner import Progress, run_chunks
from yieldkit.burnin.schedule import Decision, Ledger
from yieldkit.burnin.spec import CampaignSpec
from yieldkit.burnin.spec_file import apply_overrides, parse_toml, toml_text, validate, with_absolute_paths
from yieldkit.burnin.stopping import StopRequest, stop_on_signals
from yieldkit.burnin.store import STORE_NAME, Allocation, Store
from yieldkit.burnin.tally import Tally
from yieldkit.burnin.trial import FaultClass, TrialRecord
from yieldkit.burnin.worker import run_trial_alone
from yieldkit.errors import BadFile, BadInput
from yieldkit.files import fingerprint, read_bytes, write_bytes
from yieldkit.version import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SPEC_NAME", "Campaign", "CampaignRun", "Pulse", "Replay", "write_if_new"]

SPEC_NAME: Final = "spec.toml"
_FRAME_COLUMNS: Final = ("k", "kind", "label", "site", "bit", "phase", "model", "weight")


@dataclass(frozen=True)
class Campaign:
    """What to test, checked and complete.

    Attributes:
        spec: the spec, its file paths absolute.
        inputs: the files it names, by field.
        benches: kinds of bench besides the built-in ones, and the modules (importable by workers) that offer them.
    """

    spec: CampaignSpec
    inputs: Mapping[str, FileInput] = field(default_factory=dict)
    benches: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_toml(
        cls, path: str | Path, *, overrides: Sequence[str] = (), benches: Mapping[str, str] | None = None
    ) -> Self:
        """Read a campaign spec.

        Args:
            path: a TOML file; the paths in it start at its folder.
            overrides: `a.b=value`, applied before the check.
            benches: further kinds of bench.

        Raises:
            BadFile: the file cannot be read or is not TOML.
            BadSpec: fields are unknown, missing or wrong; all are named.
        """
        tables = apply_overrides(parse_toml(path), overrides)
        return cls.from_tables(tables, source=str(path), folder=Path(path).parent, benches=benches)

    @classmethod
    def from_tables(
        cls,
        tables: Mapping[str, Any],
        *,
        source: str = "campaign",
        folder: Path | None = None,
        benches: Mapping[str, str] | None = None,
    ) -> Self:
        """Check nested tables as `from_toml` does; relative paths start at `folder`, or where the process is."""
        spec = validate(tables, source=source, folder=folder or Path.cwd(), benches=benches)
        return cls(spec, read_inputs(spec), dict(benches or {}))

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that can alter a trial, as flat names and values; files by the digest of their content."""
        return identity_of(self.spec, self.inputs)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of `identity`: budget, rounds, chunks, stop rule and name are not in it."""
        return fingerprint(self.identity)

    def replay(self, k: int) -> TrialRecord:
        """Carry out trial `k` alone, in this process.

        Raises:
            BadInput: k is not a trial number, or its stratum was decided by the rounds of a run.
        """
        return self._replay(k, None)

    def _replay(self, k: int, allocation: Allocation | None) -> TrialRecord:
        if isinstance(k, bool) or k != int(k) or k < 0:
            raise BadInput("a trial is numbered from 0", value=k)
        record = run_trial_alone(self.spec.model_dump_json(), self.benches, int(k), allocation)
        return TrialRecord.from_dict(record.to_dict())

    def run(
        self,
        out_dir: str | Path,
        *,
        jobs: int = 1,
        make_executor: MakeExecutor | None = None,
        stop: StopRequest | None = None,
        part: str = "",
        options: str = "",
    ) -> CampaignRun:
        """Run what is missing in `out_dir` and return it; SIGINT and SIGTERM stop it with everything done kept.

        Arguments and errors as in `iter_run`.
        """
        with stop_on_signals() as on_signal:
            steps = self.iter_run(
                out_dir, jobs=jobs, make_executor=make_executor, stop=stop or on_signal, part=part, options=options
            )
            for _ in steps:
                pass
        return CampaignRun.load(out_dir, benches=self.benches)

    def iter_run(
        self,
        out_dir: str | Path,
        *,
        jobs: int = 1,
        make_executor: MakeExecutor | None = None,
        stop: StopRequest | None = None,
        part: str = "",
        options: str = "",
    ) -> Iterator[Progress]:
        """Run what is missing in `out_dir`, yielding where it stands at the start and after every commit.

        A folder with enough trials is left as it is. Rows depend on the spec and its seed only: not on `jobs`, on how
        often the run was stopped or killed, or on the size of a chunk.

        Args:
            out_dir: folder of the run, made when missing.
            jobs: 1 runs in this process, more in worker processes.
            make_executor: another source of executors (`concurrent.futures`), called with the number of workers.
            stop: ask it for a stop between commits.
            part: "i/n": carry out the i-th of n parts only, for folders that are merged later (`merge_runs`). Where
                rounds decide (a stop rule, or allocation to strata), each round that may run is shared out, and the
                parts have to be merged before the next.
            options: further options of the command line that is printed when the run is stopped.

        Raises:
            BadInput: the folder belongs to another campaign (the fields that differ are named), another process is
                writing there, or the bench refuses the spec.
            BadFile: the folder cannot be written, or the disk is full; what is committed is kept.
            Interrupted: stopped on request before the end.
        """
        if jobs < 1 or jobs != int(jobs):
            raise BadInput("jobs must be a whole number of at least 1", value=jobs)
        folder = Path(out_dir)
        mine = Part.parse(part) if part else None
        ledger = self._peek(folder, mine)
        if ledger is not None and ledger.finished:
            yield _standing(ledger)
            return
        with only_writer(folder):
            kept = keep_inputs(folder, self.spec, self.inputs)
            meta = {
                "identity": self.identity,
                "fingerprint": self.fingerprint,
                "spec": kept,
                "versions": _versions(),
            }
            with Store.writer(folder / STORE_NAME, meta=meta) as store:
                if not store.covered():
                    # A run that stored nothing, because its bench refused the spec, claims nothing.
                    store.set_meta(meta)
                self._refuse_unlike(folder, store.meta("identity"))
                store.set_meta({"spec": kept})
                write_if_new(folder / SPEC_NAME, toml_text(kept))
                ledger = self._ledger(store, mine)
                yield _standing(ledger)
                yield from run_chunks(
                    store,
                    ledger,
                    spec_text=json.dumps(with_absolute_paths(kept, folder.absolute())),
                    benches=self.benches,
                    folder=folder,
                    jobs=jobs,
                    make_executor=make_executor,
                    stop=stop,
                    options=f"--part {mine} {options}".strip() if mine else options,
                    mark=self._mark,
                )
                store.finish()

    def _peek(self, folder: Path, part: Part | None = None) -> Ledger | None:
        """The ledger of a store that is there, without a write."""
        path = folder / STORE_NAME
        try:
            if not path.exists() or path.stat().st_size == 0:
                return None
            with Store.reader(path) as store:
                if not store.covered():
                    return None
                self._refuse_unlike(folder, store.meta("identity"))
                return self._ledger(store, part)
        except OSError as error:
            raise BadFile(folder, f"cannot be read: {error.strerror}") from error

    @property
    def decides_by_round(self) -> bool:
        """What later rounds do, or whether there are any, hangs on the earlier ones."""
        strata = self.spec.strata
        return self.spec.campaign.stop is not None or (strata is not None and strata.allocation == "neyman")

    def _ledger(self, store: Store, part: Part | None = None) -> Ledger:
        plan = self.spec.campaign
        covered = store.covered()
        if part is not None:
            # What others carry out is as good as covered: it is not handed out, and not counted either.
            covered = join_ranges([*covered, *part.others(plan, by_round=self.decides_by_round)])
        known: dict[str, Any] = {"spec": self.spec, "classes": store.classes()}
        if not covered or store.last < plan.trials:
            if not self.decides_by_round:
                return Ledger(plan, covered, {}, **known, decided=store.tally())
            complete = self._complete_rounds(store)
            if complete:
                rounds = store.rounds(plan.round, below=plan.trials, first=complete)
                decided = store.tally()
                for tally in rounds.values():
                    decided = decided - tally
                return Ledger(plan, covered, rounds, **known, complete=complete, decided=decided)
        return Ledger(plan, covered, store.rounds(plan.round, below=plan.trials), **known)

    def _mark(self, ledger: Ledger) -> dict[str, Any]:
        """What is kept with each commit, so that the rounds before need not be counted again."""
        plan = self.spec.campaign
        stop = None if plan.stop is None else plan.stop.model_dump(mode="json")
        return {"round": plan.round, "stop": stop, "complete": ledger.complete}

    def _complete_rounds(self, store: Store) -> int:
        """Rounds known to be complete under the present size of rounds and stop rule; 0 when nothing is known."""
        mark, plan = store.meta("rounds"), self.spec.campaign
        stop = None if plan.stop is None else plan.stop.model_dump(mode="json")
        if not mark or (mark["round"], mark["stop"]) != (plan.round, stop):
            return 0
        complete = int(mark["complete"])
        return complete if complete * plan.round <= plan.trials else 0

    def _refuse_unlike(self, folder: Path, stored: Mapping[str, Any]) -> None:
        if differences := identity_differences(stored, self.identity):
            raise BadInput(
                f"{folder} holds another campaign; {'; '.join(differences)}",
                cure=f"run into another folder, or go on with that one: yieldkit burnin resume {folder}",
            )


@dataclass(frozen=True)
class Replay:
    """A trial carried out again: `stored` is None when the run has not come to it, `equal` then too."""

    record: TrialRecord
    stored: TrialRecord | None
    equal: bool | None


@dataclass(frozen=True)
class Pulse:
    """What a running campaign says of itself with each commit.

    Attributes:
        added: trials that it has added.
        elapsed_s: seconds that took.
        age_s: seconds since the last commit.
    """

    added: int
    elapsed_s: float
    age_s: float

    @property
    def rate_per_s(self) -> float:
        """Trials a second."""
        return self.added / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass(frozen=True)
class CampaignRun:
    """The folder of a run, read when asked.

    Attributes:
        folder: where it is.
        campaign: the campaign it belongs to, reading the run's own copies of its input files.
    """

    folder: Path
    campaign: Campaign

    @classmethod
    def load(
        cls, folder: str | Path, *, overrides: Sequence[str] = (), benches: Mapping[str, str] | None = None
    ) -> Self:
        """Open the folder of a run, finished or not.

        Args:
            folder: as given to `Campaign.run`.
            overrides: `a.b=value` on the kept spec; only the budget, rounds, chunks, stop rule and name may change.
            benches: further kinds of bench.

        Raises:
            BadFile: there is no campaign in it, or it is damaged.
        """
        folder = Path(folder)
        with Store.reader(folder / STORE_NAME) as store:
            tables = store.meta("spec")
            identity = store.meta("identity")
        home = folder.absolute()
        if overrides:
            changed = apply_overrides(tables, overrides)
            campaign = Campaign.from_tables(changed, source=str(folder), folder=home, benches=benches)
            campaign._refuse_unlike(folder, identity)
            return cls(folder, campaign)
        # Checked when it was written; a run can be looked at where its bench is not installed.
        try:
            spec = CampaignSpec.model_validate_json(json.dumps(with_absolute_paths(tables, home)))
        except ValidationError as error:
            raise BadFile(folder / STORE_NAME, "holds a spec that this version cannot read") from error
        return cls(folder, Campaign(spec, read_inputs(spec), dict(benches or {})))

    @property
    def n(self) -> int:
        """Trials stored."""
        return self.tally().n

    @property
    def fingerprint(self) -> str:
        """Of the campaign."""
        return self.campaign.fingerprint

    @property
    def task_fingerprint(self) -> str:
        """Of what the bench built, "" before the first commit."""
        with self._store() as store:
            return str(store.meta("task_fingerprint") or "")

    @property
    def clean_observations(self) -> tuple[Mapping[str, Any], ...]:
        """Symptoms of clean runs, as the bench gave them with the first commit."""
        with self._store() as store:
            return tuple(store.meta("clean_observations") or ())

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the programs that began the run."""
        with self._store() as store:
            return dict(store.meta("versions"))

    @property
    def running(self) -> bool:
        """Some process is writing to it now."""
        return writer_is_alive(self.folder)

    @property
    def pulse(self) -> Pulse | None:
        """How fast the process that writes now gets on, None when there is none or nothing is committed yet."""
        with self._store() as store:
            told = store.meta("pulse")
        if not told or not self.running:
            return None
        return Pulse(int(told["added"]), float(told["elapsed_s"]), max(time.time() - float(told["at"]), 0.0))

    @property
    def finished(self) -> bool:
        """Nothing is left to do."""
        return self.standing()[1]

    @property
    def decision(self) -> Decision:
        """How far the run goes, as far as it is decided."""
        return self.standing()[0]

    def standing(self) -> tuple[Decision, bool]:
        """`decision` and `finished` at one moment."""
        with self._store() as store:
            ledger = self.campaign._ledger(store)
        return ledger.decision, ledger.finished

    def classes(self) -> tuple[FaultClass, ...]:
        """Classes of faults with their populations, as the bench gave them with the first commit."""
        with self._store() as store:
            return store.classes()

    def allocations(self) -> dict[int, Allocation]:
        """Trials of each (half, stratum) in every round that has begun; empty without strata."""
        with self._store() as store:
            return store.allocations()

    def tally(self) -> Tally:
        """Counts by kind of fault and label."""
        with self._store() as store:
            return store.tally()

    def records(self) -> Iterator[TrialRecord]:
        """All stored trials in the order of k."""
        with self._store() as store:
            yield from store.records()

    def record(self, k: int) -> TrialRecord | None:
        """One stored trial."""
        with self._store() as store:
            return store.record(k)

    def to_frame(self) -> pd.DataFrame:
        """One row a trial: `k`, `kind`, `label`, its class, model and weight, `truth.*`, `seen.*`, `metric.*`.

        Lists stay lists.
        """
        import pandas as pd

        rows = [
            {
                "k": record.k,
                "kind": record.kind,
                "label": record.label,
                "site": record.site,
                "bit": record.bit,
                "phase": record.phase,
                "model": record.model,
                "weight": record.weight,
                **{f"truth.{name}": value for name, value in record.truth.items()},
                **{f"seen.{name}": value for name, value in record.observations.items()},
                **{f"metric.{name}": value for name, value in record.metrics.items()},
            }
            for record in self.records()
        ]
        return pd.DataFrame(rows, columns=None if rows else list(_FRAME_COLUMNS))

    def resume(self, *, jobs: int = 1, make_executor: MakeExecutor | None = None, part: str = "") -> CampaignRun:
        """Run what is missing; see `Campaign.run`."""
        return self.campaign.run(self.folder, jobs=jobs, make_executor=make_executor, part=part)

    def replay(self, k: int) -> Replay:
        """Carry out trial `k` alone in this process and compare it with the stored row."""
        allocation = None
        if self.campaign.spec.strata is not None and k >= 0:
            with self._store() as store:
                allocation = store.allocation(k // self.campaign.spec.campaign.round)
        record = self.campaign._replay(k, allocation)
        stored = self.record(k)
        return Replay(record, stored, None if stored is None else stored.text() == record.text())

    def _store(self) -> Store:
        return Store.reader(self.folder / STORE_NAME)


def _standing(ledger: Ledger) -> Progress:
    decision, tally = ledger.decision, ledger.tally
    return Progress(tally.n, decision.limit, 0, 0.0, tally, ledger.finished, decision.reason)


def _versions() -> dict[str, str]:
    import numpy as np

    return {
        "yieldkit": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "sqlite": sqlite3.sqlite_version,
    }


def write_if_new(path: Path, text: str) -> None:
    """Write a text unless the file holds it already."""
    if not path.exists() or read_bytes(path) != text.encode():
        write_bytes(path, text.encode())
