"""Campaign specs for the counting bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from yieldkit.burnin import Campaign, CampaignRun

BENCHES: Final = {"counting": "tests.burnin.counting_bench"}


def tables(**campaign: Any) -> dict[str, Any]:
    return {
        "campaign": {
            "name": "count",
            "seed": 7,
            "trials": 60,
            "round": 16,
            "chunk": 4,
            "bench": "counting",
            **campaign,
        },
        "wafer": {"preset": "mini"},
        "program": {"kind": "counting"},
        "faults": {"kinds": {"sram_data": 3, "link_drop": 1.5}},
    }


def campaign(*overrides: str, folder: Path | None = None, **section: Any) -> Campaign:
    from yieldkit.burnin.spec_file import apply_overrides

    return Campaign.from_tables(apply_overrides(tables(**section), overrides), folder=folder, benches=BENCHES)


def write_spec(folder: Path, **section: Any) -> Path:
    from yieldkit.burnin.spec_file import toml_text

    path = folder / "campaign.toml"
    path.write_text(toml_text(tables(**section)))
    return path


def rows(run: CampaignRun) -> list[str]:
    return [record.text() for record in run.records()]
