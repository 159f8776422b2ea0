"""How fast a campaign's store takes trials, how large it grows, and how long a look at a million of them takes."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.burnin.specs import campaign
from yieldkit.burnin import CampaignRun
from yieldkit.burnin.store import STORE_NAME, Store
from yieldkit.burnin.trial import TrialRow
from yieldkit.files import canonical_json
from yieldkit.rng import generator

COMMAND = "python -m tests.bench.campaigns"
TRIALS = 1_000_000
CHUNK = 64


def synthetic_rows(trials: int) -> Iterator[list[TrialRow]]:
    """Chunks of trials with the texts of a small training job: 12 losses, 12 x 8 x 6 classes, 5 labels."""
    rng = generator(1, "tests.bench.store")
    truth = {"kind": "sram_data", "row": 5, "col": 12, "logical": [1, 2], "bypassed": False, "step": 7, "launch": 3}
    seen = {"program": "gpt_training", "status": "COMPLETED", "steps_planned": 12, "events": [], "waiting": []}
    seen["loss"] = [round(float(x), 7) for x in rng.random(12)]
    metrics = {"fault_step": 7, "final_loss": 2.345678, "final_loss_delta": 1.23e-5, "worst_loss_delta": 1.2e-3}
    texts = [canonical_json(part) for part in (truth, seen, metrics)]
    labels = ("MASKED_OVERWRITTEN", "BENIGN", "SDC_BITS", "STALL_DROP", "NAN_HW")
    for start in range(0, trials, CHUNK):
        drawn = rng.integers(0, (12, 8, 6, 5), size=(min(CHUNK, trials - start), 4)).tolist()
        yield [
            TrialRow(start + i, "sram_data", labels[label], *texts, f"site{site}", f"bit{bit}", f"phase{phase}", "bit")
            for i, (site, bit, phase, label) in enumerate(drawn)
        ]


def fill(folder: Path, trials: int) -> tuple[CampaignRun, float]:
    """A run with so many synthetic trials, and the seconds that the store took."""
    run = campaign("campaign.trials=1").run(folder)
    with Store.reader(folder / STORE_NAME) as store:
        meta = {name: store.meta(name) for name in ("identity", "fingerprint", "spec", "versions")}
    meta["spec"]["campaign"] |= {"trials": trials, "round": 4096}
    (folder / STORE_NAME).unlink()
    seconds = 0.0
    with Store.writer(folder / STORE_NAME, meta=meta) as store:
        for rows in synthetic_rows(trials):
            begin = time.perf_counter()
            store.add_chunk(rows[0].k, rows[-1].k + 1, rows, task_fingerprint="t", progress={"pulse": None})
            seconds += time.perf_counter() - begin
        store.finish()
    return CampaignRun.load(run.folder), seconds


def figures(trials: int = TRIALS) -> list[dict[str, Any]]:
    """All rows."""
    from yieldkit.cli.burnin import standing

    with tempfile.TemporaryDirectory() as place:
        run, seconds = fill(Path(place) / "run", trials)
        size = (run.folder / STORE_NAME).stat().st_size
        begin = time.perf_counter()
        facts, _ = standing(run)
        status = time.perf_counter() - begin
        assert facts["trials"] == trials
        begin = time.perf_counter()
        assert run.tally().n == trials
        tally = time.perf_counter() - begin
    rows = (
        ("campaign_store_rows_per_s", trials / seconds, "trials/s"),
        ("campaign_store_bytes_per_trial", size / trials, "B"),
        ("campaign_status_s", status, "s"),
        ("campaign_tally_s", tally, "s"),
    )
    return [
        {
            "name": name,
            "value": value,
            "unit": unit,
            "peer": None,
            "peer_value": None,
            "ratio": None,
            "command": COMMAND,
        }
        for name, value, unit in rows
    ]


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
