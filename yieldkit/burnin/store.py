"""The store of a campaign: one SQLite file, one writer, one transaction a chunk; any moment is a safe one to die."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

from yieldkit.burnin.tally import Tally
from yieldkit.burnin.trial import FaultClass, TrialRecord, TrialRow
from yieldkit.errors import BadFile, BadInput
from yieldkit.files import canonical_json, fingerprint

__all__ = ["FORMAT", "STORE_NAME", "Allocation", "Store"]

STORE_NAME: Final = "campaign.sqlite"
FORMAT: Final = 3
_APPLICATION_ID: Final = 0x796B6231  # "ykb1"
_COLUMNS: Final = ", ".join(TrialRow._fields)
_PLACES: Final = ", ".join("?" for _ in TrialRow._fields)
_CLASS: Final = "kind, label, site, bit, phase, model, weight"
_CELL: Final = f"{_CLASS}, k % 2"
_FINDABLE: Final = frozenset({"kind", "label", "site", "bit", "phase", "model"})
_COUNTED: Final = f"{_CLASS}, half"
_BUSY_SECONDS: Final = 30.0
_NOSPACE: Final = "make room or choose another folder, then run the same command again: nothing committed is lost"

_COUNT: Final = (
    f"INSERT INTO counts ({_COUNTED}, n) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
    f"ON CONFLICT ({_COUNTED}) DO UPDATE SET n = n + excluded.n"
)

Allocation = dict[tuple[int, str], int]
"""Trials of each (half, stratum) of a round."""

_SCHEMA: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE chunks (start INTEGER PRIMARY KEY, stop INTEGER NOT NULL, digest TEXT NOT NULL)",
    """CREATE TABLE trials (
        k INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        label TEXT NOT NULL,
        truth TEXT NOT NULL,
        observations TEXT NOT NULL,
        metrics TEXT NOT NULL,
        site TEXT NOT NULL,
        bit TEXT NOT NULL,
        phase TEXT NOT NULL,
        model TEXT NOT NULL,
        weight REAL NOT NULL
    )""",
    """CREATE TABLE allocation (
        round INTEGER NOT NULL,
        half INTEGER NOT NULL,
        stratum TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (round, half, stratum)
    ) WITHOUT ROWID""",
    # Counts of all trials, kept with each chunk: `status` of a million trials reads a few thousand rows.
    f"""CREATE TABLE counts (
        kind TEXT NOT NULL,
        label TEXT NOT NULL,
        site TEXT NOT NULL,
        bit TEXT NOT NULL,
        phase TEXT NOT NULL,
        model TEXT NOT NULL,
        weight REAL NOT NULL,
        half INTEGER NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY ({_COUNTED})
    ) WITHOUT ROWID""",
    # Finds the trials of a cell, and counts those of some rounds without reading the observations.
    f"CREATE INDEX outcomes ON trials ({_CLASS})",
)


class Store:
    """An open store; use `reader` or `writer`, and as a context manager.

    Tables: `meta` (format, identity, spec, fingerprints, versions, classes of faults with their populations, as JSON),
    `chunks` (ranges of k that are complete, with a digest of their rows, because SQLite does not notice a changed
    byte), `trials` (one row a trial: injected truth with its class, observations, metrics and the referee's label in
    columns of their own), `counts` (how many trials share class, label and half) and `allocation` (trials of each
    stratum in each half of each round that has begun, a half being the even or the odd k; empty without strata).
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def reader(cls, path: Path) -> Self:
        """Open for reading, also while a campaign writes.

        Raises:
            BadFile: there is no store, or it is something else, damaged or of a newer format.
        """
        if not path.is_file():
            raise BadFile(path, "there is no campaign here", cure="start one: yieldkit burnin run SPEC.toml --out DIR")
        store = cls(path, _connect(path, "mode=ro"))
        try:
            store._check_format()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def writer(cls, path: Path, *, meta: Mapping[str, Any], vfs: str = "") -> Self:
        """Open for writing, and create what is missing with `meta` (nothing is written to a store that exists).

        Args:
            path: the file.
            meta: JSON values by name, kept with a new store.
            vfs: name of an SQLite file system layer, for storage that needs one.

        Raises:
            BadFile: the place cannot be written, or holds something else than a store.
        """
        store = cls(path, _connect(path, "mode=rwc" + (f"&vfs={vfs}" if vfs else "")))
        try:
            with store._errors():
                store._choose_journal()
                if store._is_empty():
                    store._create(meta)
            store._check_format()
        except BaseException:
            store.close()
            raise
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close; what is committed is on its way to the disk."""
        self._connection.close()

    def finish(self) -> None:
        """Fold the write-ahead log into the file: a finished campaign is one file, readable on read-only media.

        Another reader may hold the log open; it then stays, which harms nothing.
        """
        try:
            self._connection.execute("PRAGMA busy_timeout=0")
            self._connection.execute("PRAGMA journal_mode=DELETE").fetchone()
        except sqlite3.OperationalError:
            return

    @property
    def journal_mode(self) -> str:
        """The journal: "wal" where the file system allows it, "truncate" elsewhere, "delete" once finished."""
        return str(self._connection.execute("PRAGMA journal_mode").fetchone()[0]).lower()

    def meta(self, key: str) -> Any:
        """A value kept beside the trials, or None."""
        with self._errors():
            row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_meta(self, values: Mapping[str, Any]) -> None:
        """Keep values by name; does not touch the file when they are there already."""
        new = {key: value for key, value in values.items() if self.meta(key) != value}
        if new:
            with self._transaction() as connection:
                for key, value in new.items():
                    _put_meta(connection, key, value)

    def add_chunk(
        self,
        start: int,
        stop: int,
        rows: Sequence[TrialRow],
        *,
        task_fingerprint: str,
        clean_observations: Sequence[Mapping[str, Any]] = (),
        classes: Sequence[FaultClass] = (),
        allocation: tuple[int, Allocation] | None = None,
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep trials start..stop-1 in one transaction; what the bench says of clean runs is kept with the first.

        Args:
            start: first k.
            stop: behind the last k.
            rows: its trials.
            task_fingerprint: of the bench.
            clean_observations: symptoms of clean runs.
            classes: classes of faults with their populations, as the bench has counted them.
            allocation: number of the round that the trials belong to and the trials of each (half, stratum) in it;
                the same for every chunk of a round.
            progress: JSON values kept beside the trials, for who looks on; the last ones stay.

        Raises:
            BadInput: another version of the program, the wafer or the bench has made the trials stored so far, or the
                round was allocated otherwise.
            BadFile: the disk is full or the file cannot be written.
        """
        if [row.k for row in rows] != list(range(start, stop)):
            raise ValueError(f"chunk {start}..{stop} does not hold its own trials")
        with self._transaction() as connection:
            stored = connection.execute("SELECT value FROM meta WHERE key = 'task_fingerprint'").fetchone()
            if stored is None:
                _put_meta(connection, "task_fingerprint", task_fingerprint)
                _put_meta(connection, "clean_observations", list(clean_observations))
                _put_meta(connection, "classes", [list(one) for one in classes])
            elif json.loads(stored[0]) != task_fingerprint:
                raise BadInput(
                    f"{self.path}: the spec is the same, but the bench now builds another task than the one whose "
                    f"trials are stored ({json.loads(stored[0])}, now {task_fingerprint})",
                    cure="likely cause: another version of yieldkit or of its data; run into another folder",
                )
            if allocation is not None:
                self._keep_allocation(connection, *allocation)
            connection.execute("INSERT INTO chunks VALUES (?, ?, ?)", (start, stop, _digest(rows)))
            connection.executemany(f"INSERT INTO trials ({_COLUMNS}) VALUES ({_PLACES})", rows)
            cells = Counter((*(getattr(row, name) for name in _CLASS.split(", ")), row.k % 2) for row in rows)
            connection.executemany(_COUNT, [(*cell, n) for cell, n in sorted(cells.items())])
            for key, value in (progress or {}).items():
                _put_meta(connection, key, value)

    def classes(self) -> tuple[FaultClass, ...]:
        """Classes of faults with their populations; none before the first commit, or where the bench has none."""
        return tuple(FaultClass(*one) for one in self.meta("classes") or ())

    def allocation(self, number: int) -> Allocation | None:
        """Trials of each (half, stratum) in a round, sorted; None where the round has not begun."""
        with self._errors():
            return _allocation(self._connection, number) or None

    def allocations(self) -> dict[int, Allocation]:
        """Trials of each (half, stratum) in every round that has begun."""
        found: dict[int, Allocation] = {}
        query = "SELECT round, half, stratum, n FROM allocation ORDER BY round, half, stratum"
        with self._errors():
            for number, half, stratum, n in self._connection.execute(query):
                found.setdefault(number, {})[half, stratum] = n
        return found

    def _keep_allocation(self, connection: sqlite3.Connection, number: int, allocation: Allocation) -> None:
        new = {cell: n for cell, n in allocation.items() if n}
        stored = _allocation(connection, number)
        if not stored:
            rows = [(number, half, stratum, n) for (half, stratum), n in new.items()]
            connection.executemany("INSERT INTO allocation VALUES (?, ?, ?, ?)", rows)
        elif stored != new:
            raise BadInput(
                f"{self.path}: round {number} is stored with another allocation to strata than it has now",
                cure="likely cause: another version of yieldkit; run into another folder",
            )

    def covered(self) -> list[tuple[int, int]]:
        """Ranges of k that are stored: sorted, disjoint, neighbours joined."""
        query = """
            SELECT MIN(start), MAX(stop) FROM (
                SELECT start, stop, SUM(gap) OVER (ORDER BY start) AS island FROM (
                    SELECT start, stop, start IS NOT LAG(stop) OVER (ORDER BY start) AS gap FROM chunks
                )
            ) GROUP BY island ORDER BY 1
        """
        with self._errors():
            return [(start, stop) for start, stop in self._connection.execute(query)]

    @property
    def last(self) -> int:
        """The largest k that is stored, -1 without trials."""
        with self._errors():
            row = self._connection.execute("SELECT MAX(k) FROM trials").fetchone()
        return -1 if row[0] is None else int(row[0])

    def rounds(self, size: int, *, below: int, first: int = 0) -> dict[int, Tally]:
        """Tallies of trials k < below by number of round, k // size, from round `first` on."""
        found: dict[int, list[tuple[Any, ...]]] = {}
        # By the rows themselves where they are few.
        trials = "trials NOT INDEXED" if first else "trials"
        query = f"SELECT k / ?, {_CELL}, COUNT(*) FROM {trials} WHERE k >= ? AND k < ? GROUP BY k / ?, {_CELL}"
        with self._errors():
            for number, *cell in self._connection.execute(query, (size, first * size, below, size)):
                found.setdefault(number, []).append(tuple(cell))
        return {number: Tally.of_cells(cells) for number, cells in found.items()}

    def tally(self) -> Tally:
        """Counts of everything stored."""
        with self._errors():
            return Tally.of_cells(self._connection.execute(f"SELECT {_COUNTED}, n FROM counts"))

    def records(self) -> Iterator[TrialRecord]:
        """All trials in the order of k.

        Raises:
            BadFile: rows are not what was written.
        """
        return (TrialRecord.from_row(row) for row in self.rows())

    def rows(self) -> Iterator[TrialRow]:
        """All trials in the order of k, as they are kept; errors as in `records`."""
        with self._errors():
            chunks = self._connection.execute("SELECT start, stop, digest FROM chunks ORDER BY start").fetchall()
            for start, stop, digest in chunks:
                query = f"SELECT {_COLUMNS} FROM trials WHERE k >= ? AND k < ? ORDER BY k"
                rows = [TrialRow(*row) for row in self._connection.execute(query, (start, stop))]
                if _digest(rows) != digest:
                    raise BadFile(self.path, f"is damaged: trials {start} to {stop - 1} are not what was written")
                yield from rows

    def trials_with(self, values: Mapping[str, str], *, limit: int) -> list[int]:
        """The first k whose trials have these values of kind, label, site, bit, phase or model."""
        names = sorted(values)
        if unknown := set(names) - _FINDABLE:
            raise ValueError(f"trials cannot be found by {', '.join(sorted(unknown))}")
        where = " AND ".join(f"{name} = :{name}" for name in names) or "1"
        # The index begins with kind and label; without them it would be read from end to end.
        query = f"""
            SELECT k FROM trials INDEXED BY outcomes WHERE kind = :own_kind AND label = :own_label AND {where}
            ORDER BY k LIMIT :limit
        """
        found: list[int] = []
        with self._errors():
            begin = f"SELECT DISTINCT kind, label FROM counts WHERE {where}"
            for kind, label in self._connection.execute(begin, values).fetchall():
                own = {**values, "own_kind": kind, "own_label": label, "limit": limit}
                found += [k for (k,) in self._connection.execute(query, own)]
        return sorted(found)[:limit]

    def median_trials(self, metrics: Sequence[str]) -> dict[str, int]:
        """By label the trial in the middle by a metric (of each trial the first of these that it has), then by k.

        Non-finite values, which are kept as text, come last; trials without any of the metrics do not count.
        """
        values = ", ".join(["json_extract(metrics, ?)"] * len(metrics))
        query = f"""
            SELECT label, k FROM (
                SELECT label, k, ROW_NUMBER() OVER (PARTITION BY label ORDER BY far, k) AS place,
                    COUNT(*) OVER (PARTITION BY label) AS n
                FROM (SELECT label, k, COALESCE({values}, NULL) AS far FROM trials) WHERE far IS NOT NULL
            ) WHERE place = (n + 1) / 2
        """
        with self._errors():
            return dict(self._connection.execute(query, [f'$."{name}"' for name in metrics]))

    def trials_with_metric(self, name: str, value: float) -> int:
        """Number of trials whose metric of a name has a value."""
        query = "SELECT COUNT(*) FROM trials WHERE json_extract(metrics, ?) = ?"
        with self._errors():
            return int(self._connection.execute(query, (f'$."{name}"', value)).fetchone()[0])

    def fact_types(self) -> dict[str, dict[str, frozenset[str]]]:
        """JSON types by name of fact, for "truth", "observations" and "metrics": "integer", "real", "text", "true",
        "false", "null", "array", "object".
        """
        found: dict[str, dict[str, frozenset[str]]] = {}
        with self._errors():
            for part in ("truth", "observations", "metrics"):
                names = found.setdefault(part, {})
                query = f"SELECT DISTINCT fact.key, fact.type FROM trials, json_each(trials.{part}) AS fact"
                for name, type_name in self._connection.execute(query):
                    names[name] = names.get(name, frozenset()) | {type_name}
        return found

    def record(self, k: int) -> TrialRecord | None:
        """Trial `k` as it is now in the file, or None when it is not stored."""
        with self._errors():
            row = self._connection.execute(f"SELECT {_COLUMNS} FROM trials WHERE k = ?", (k,)).fetchone()
        return None if row is None else TrialRecord.from_row(TrialRow(*row))

    def _choose_journal(self) -> None:
        mode = ""
        try:
            mode = str(self._connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]).lower()
        except sqlite3.OperationalError as error:
            # A file system without shared memory refuses; a full or read-only one fails again below.
            if "locking" not in str(error):
                raise
        if mode == "wal":
            # Safe against any death of a process; the last commits may be lost with the power, never the file.
            self._connection.execute("PRAGMA synchronous=NORMAL")
        else:
            self._connection.execute("PRAGMA journal_mode=TRUNCATE").fetchone()
            self._connection.execute("PRAGMA synchronous=FULL")

    def _is_empty(self) -> bool:
        return not self._connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]

    def _create(self, meta: Mapping[str, Any]) -> None:
        with self._transaction() as connection:
            connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            for statement in _SCHEMA:
                connection.execute(statement)
            for key, value in {"format": FORMAT, **meta}.items():
                _put_meta(connection, key, value)

    def _check_format(self) -> None:
        with self._errors():
            mark = self._connection.execute("PRAGMA application_id").fetchone()[0]
            tables = self._connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0]
        if mark == 0 and not tables and self._is_empty():
            raise BadFile(self.path, "the campaign has not stored anything yet")
        if mark != _APPLICATION_ID or not tables:
            raise BadFile(self.path, "is an SQLite file, but not a campaign")
        if (written := self.meta("format")) != FORMAT:
            other = "a newer" if isinstance(written, int) and written > FORMAT else "an older"
            cure = f"use {other} yieldkit"
            raise BadFile(self.path, f"has format {written}, this version reads {FORMAT}", cure=cure)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn trouble with the file into one clear error; a broken statement of ours stays a bug."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as error:
            raise _bad_file(self.path, error) from error
        except json.JSONDecodeError as error:
            raise BadFile(self.path, f"is damaged: {error}") from error


def _connect(path: Path, query: str) -> sqlite3.Connection:
    try:
        uri = f"file:{quote(str(path.absolute()))}?{query}"
        return sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise _bad_file(path, error) from error


def _bad_file(path: Path, error: sqlite3.DatabaseError) -> BadFile:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return BadFile(path, "the disk is full", cure=_NOSPACE)
    if name.startswith("SQLITE_IOERR"):
        return BadFile(path, f"cannot be read or written ({error}, {name})", cure=_NOSPACE)
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return BadFile(path, "the folder cannot be written" if "READONLY" in name else f"cannot be opened: {error}")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return BadFile(path, f"is not a campaign or is damaged: {error}")
    return BadFile(path, f"cannot be used: {error}")


def _put_meta(connection: sqlite3.Connection, key: str, value: Any) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, canonical_json(value)))


def _allocation(connection: sqlite3.Connection, number: int) -> Allocation:
    query = "SELECT half, stratum, n FROM allocation WHERE round = ? ORDER BY half, stratum"
    return {(half, stratum): n for half, stratum, n in connection.execute(query, (number,))}


def _digest(rows: Sequence[TrialRow]) -> str:
    return fingerprint([list(row) for row in rows])
