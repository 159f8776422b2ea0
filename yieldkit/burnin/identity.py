"""What makes two campaigns the same: everything that can alter a trial, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from yieldkit.burnin.spec import FILE_FIELDS, CampaignSpec
from yieldkit.burnin.trial import SEMANTICS
from yieldkit.files import read_bytes

__all__ = ["STEADY_RULE", "FileInput", "identity_differences", "identity_of", "read_inputs"]

STEADY_RULE: Final = 2
"""Version of the rule of the statistical exit (`burnin.exits.Steady`): another rule ends other trials."""
_SHOWN_DIFFERENCES: Final = 5


@dataclass(frozen=True)
class FileInput:
    """A file that a spec names: where it is and the SHA-256 of its content."""

    path: Path
    sha256: str


def read_inputs(spec: CampaignSpec) -> dict[str, FileInput]:
    """Digest the files of a spec, by dotted field.

    Raises:
        BadFile: one cannot be read.
    """
    inputs: dict[str, FileInput] = {}
    tables = spec.tables()
    for names in FILE_FIELDS:
        value: Any = tables
        for name in names:
            value = value.get(name, {})
        if value:
            path = Path(value)
            inputs[".".join(names)] = FileInput(path, hashlib.sha256(read_bytes(path)).hexdigest())
    return inputs


def identity_of(spec: CampaignSpec, inputs: Mapping[str, FileInput]) -> dict[str, Any]:
    """Flat, dotted names and values of all that can alter a trial.

    The name, the budget, rounds, chunks and the stop rule only say how many trials there are (with strata, the size of
    a round decides which stratum a trial belongs to); raw rates are applied to outcomes afterwards; where a file lies
    does not matter, its content does.
    """
    tables = spec.tables()
    campaign = tables.pop("campaign")
    tables.pop("rates", None)
    # Which trials are checked alters none; that ends are exact is what a spec without the table says.
    if tables.pop("trials", {}).get("exit", "exact") != "exact":
        tables["trials"] = {"exit": "statistical", "rule": STEADY_RULE}
    if spec.strata is not None:
        tables["campaign"] = {"round": campaign["round"]}
    flat = {"semantics": SEMANTICS, "campaign.seed": campaign["seed"], "campaign.bench": campaign["bench"]}
    _flatten(tables, "", flat)
    for name, file in inputs.items():
        flat[name] = f"sha256:{file.sha256}"
    return flat


def identity_differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One phrase a field that differs, at most a few, the likely cause first; empty when the two are the same."""
    names = sorted(set(stored) | set(now), key=lambda name: (name != "semantics", name))
    phrases = []
    for name in names:
        before, after = stored.get(name), now.get(name)
        if before == after and type(before) is type(after):
            continue
        if name == "semantics":
            phrases.append(f"it was made by a version of yieldkit with other rules ({before}, now {after})")
        elif all(isinstance(value, str) and value.startswith("sha256:") for value in (before, after)):
            phrases.append(f"{name}: the content of the file has changed")
        else:
            phrases.append(f"{name} is {_shown(before)} there and {_shown(after)} here")
    hidden = len(phrases) - _SHOWN_DIFFERENCES
    return phrases[:_SHOWN_DIFFERENCES] + ([f"and {hidden} more fields differ"] if hidden > 0 else [])


def _flatten(tables: Mapping[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    for name, value in tables.items():
        if isinstance(value, Mapping):
            _flatten(value, f"{prefix}{name}.", flat)
        else:
            flat[f"{prefix}{name}"] = value


def _shown(value: object) -> str:
    return "absent" if value is None else repr(value)
