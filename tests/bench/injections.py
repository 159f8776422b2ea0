"""Figures of cheap trials: injections a second against PyTorchFI and against forward passes, trials of a training run
against the whole of it, trials of forward campaigns, and what the last trials of a long campaign cost.

Settings of both sides: one thread, fp32, batch 1, random bits of the words of a random layer, half of what a layer puts
out (here after a bias, or where it is added to the residual stream), half of its weights. Rates are in CPU time of the
thread, the best of a few rounds by turns, since other work on the machine only ever slows them.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.emulator import CAMPAIGN
from tests.bench.pytorchfi_injections import CNN, SETTINGS, TRANSFORMER, peer_figures
from yieldkit.burnin import Campaign
from yieldkit.burnin.emulator_bench import EmulatorBench
from yieldkit.burnin.trial import open_bench
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import Lowered, lower
from yieldkit.emulator.replay import Replay, Strike
from yieldkit.faults import FAULT_KINDS
from yieldkit.workloads.cnn import cnn_forward
from yieldkit.workloads.gpt import gpt_forward
from yieldkit.workloads.program import Compute, Gemm, written_by

__all__ = ["cnn", "figures", "injection_rates", "strikes", "transformer"]

COMMAND = "python -m tests.bench --only injections"
TRIALS = 20_000
"""Of the stored campaign; `python -m tests.bench.injections --decay --trials 100000` runs the long one."""
SRAM_WORDS = 1 << 14
"""Of a core, so that 4 layers of width 128 with 64 tokens fit 8 of them (assumption: a core with 64 KB)."""


def _row(name: str, value: float | None, unit: str, **peer: Any) -> dict[str, Any]:
    empty = {"peer": None, "peer_value": None, "ratio": None}
    return {"name": name, "value": value, "unit": unit, **empty, **peer, "command": COMMAND}


def transformer() -> Lowered:
    """4 layers of width 128, 64 tokens, on a row of 8 cores."""
    sizes = {"layers": TRANSFORMER["layers"], "width": TRANSFORMER["d"], "heads": TRANSFORMER["heads"]}
    program = gpt_forward(
        **sizes, context=TRANSFORMER["T"], vocabulary=TRANSFORMER["vocabulary"], sequences=1, rows=1, cols=8,
        dtype="fp32",
    )  # fmt: skip
    return lower(program, sram_words=SRAM_WORDS)


def cnn() -> Lowered:
    """3 convolutions on an image of 16 x 16, on one core."""
    return lower(cnn_forward(**CNN, samples=1, rows=1, cols=1, dtype="fp32"), sram_words=SRAM_WORDS)


def replay_of(low: Lowered, *, sums: bool = False) -> tuple[Replay, Job]:
    """The clean pass of a forward program, and a job that does whole passes."""
    job = Job.start(low, taps=False)
    tokens, targets = job._batch()
    feeds = [job.memoryx.streams(launch.launch, tokens, targets) for launch in low.launches]
    job.run_step()
    return Replay(low, feeds, sums=sums), job


def strikes(low: Lowered, replay: Replay, count: int, seed: int = 1) -> list[Strike]:
    """Random bits of outputs and weights of random layers, by turns."""
    rng = np.random.default_rng(seed)
    phases = list(low.program.phases)
    table = low.program.table
    # Layers as PyTorchFI has them: one for queries, keys and values together.
    named: dict[str, list[int]] = {}
    for number, phase in enumerate(phases):
        if isinstance(phase, Gemm) or phase.name == "conv0.local":
            where, _, what = phase.name.partition(".")
            named.setdefault(f"{where}.qkv" if what in ("q.gemm", "k.gemm", "v.gemm") else phase.name, []).append(
                number
            )
    layers = list(named.values())
    found: list[Strike] = []
    while len(found) < count:
        layer = layers[int(rng.integers(len(layers)))]
        number = layer[int(rng.integers(len(layer)))]
        phase, mask = phases[number], 1 << int(rng.integers(32))
        strike = None
        if len(found) % 2 and isinstance(phase, Gemm):
            k, n = replay.weights_shape(number)
            strike = replay.weight(number, int(rng.integers(k)), int(rng.integers(n)), 0xFFFFFFFF, mask)
        elif len(found) % 2:
            # The first convolution's weights lie in the core.
            name = "conv0.weights"
            index = int(rng.integers(table[name].size))
            strike = replay.word(number, name, (0, int(rng.integers(low.program.cols))), index, 0xFFFFFFFF, mask)
        else:
            name = phase.y if isinstance(phase, Gemm) else "conv0.z"
            after = number + 1
            bias = [n for n in range(after, min(after + 3, len(phases))) if phases[n].name.endswith("bias.add")]
            if bias and isinstance(phases[bias[0]], Compute) and name in written_by(phases[bias[0]]):
                after = bias[0] + 1
            core = (0, int(rng.integers(low.program.cols)))
            strike = replay.word(after, name, core, int(rng.integers(table[name].size)), 0xFFFFFFFF, mask)
        if strike is not None:
            found.append(strike)
    return found


def injection_rates(low: Lowered, count: int, rounds: int = 6, passes: int = 20) -> tuple[float, float, float]:
    """Injections a second, clean forward passes a second, and the share of injections that changed an output.

    Both by turns, in CPU time of this thread, the best round of each.
    """
    replay, job = replay_of(low)
    events = strikes(low, replay, count)
    replay.run(events[:4])
    trial = forward = float("inf")
    changed = 0.0
    for _ in range(rounds):
        begin = time.thread_time()
        outcomes = replay.run(events)
        trial = min(trial, (time.thread_time() - begin) / count)
        changed = float((outcomes[:, 2] > 0).mean())
        begin = time.thread_time()
        for _ in range(passes):
            job.run_step()
        forward = min(forward, (time.thread_time() - begin) / passes)
    return 1 / trial, 1 / forward, changed


def injections() -> list[dict[str, Any]]:
    """Rates of both models, ours and theirs by turns."""
    rows = []
    models = {"transformer": (transformer, 200), "cnn": (cnn, 2_000)}
    ours: dict[str, list[tuple[float, float, float]]] = {name: [] for name in models}
    theirs: dict[str, list[float]] = {name: [] for name in models}
    version = ""
    for _ in range(3):
        for name, (program, count) in models.items():
            ours[name].append(injection_rates(program(), count, rounds=3))
        peer = peer_figures(500)
        version = str(peer.get("torch", ""))
        for name in models:
            theirs[name] += [peer[name]["injections_per_s"]] if name in peer else []
    for name in models:
        rate, passes = (max(figures[k] for figures in ours[name]) for k in (0, 1))
        rows.append(_row(f"injections_per_s_{name}", rate, "1/s"))
        rows.append(_row(f"injections_vs_forward_{name}", rate, "1/s", peer="clean forward passes", peer_value=passes))
        text = f"PyTorchFI 0.6.0, torch {version}, tests/bench/pytorchfi_injections.py: {SETTINGS}"
        if not theirs[name]:
            text = "PyTorchFI: not installed (YIELDKIT_TORCH_PYTHON names a Python that has it)"
        peer_rate = max(theirs[name], default=None)
        rows.append(_row(f"injections_vs_pytorchfi_{name}", rate, "1/s", peer=text, peer_value=peer_rate))
    return rows


def training_trials(exit_: str, count: int = 120) -> dict[str, Any]:
    """Mean seconds of a trial of the default campaign mix, against the whole job in turn."""
    spec = Campaign.from_tables({**CAMPAIGN, "trials": {"exit": exit_}}, source="bench").spec
    bench = open_bench(spec)
    assert isinstance(bench, EmulatorBench)
    golden = bench.golden
    for k in range(count, count + 12):
        bench.trial(k)
    mine, whole = [], []
    for k in range(count):
        if k % 10 == 0:
            begin = time.thread_time()
            job = Job.start(golden.lowered, checkpoint=golden.states.state(0), queue_depth=bench.queue_depth, taps=True)
            for _ in range(golden.steps):
                job.run_step()
            whole.append(time.thread_time() - begin)
        begin = time.thread_time()
        bench.trial(k)
        mine.append(time.thread_time() - begin)
    name = "trial_vs_full_run" + ("" if exit_ == "statistical" else "_exact")
    peer = f"the whole job of {golden.steps} steps, clean; {exit_} exit"
    return _row(name, statistics.mean(mine), "s", peer=peer, peer_value=statistics.median(whole))


def decay(trials: int = TRIALS) -> list[dict[str, Any]]:
    """CPU seconds of the last thousand trials of a stored campaign against a thousand at its beginning, and the memory
    between them. The first 500 trials are left out: there clean passes are made and code is compiled.
    """
    tables = {
        "campaign": {"name": "decay", "seed": 1, "trials": trials, "round": 1_000, "chunk": 100},
        "wafer": {"preset": "mini"},
        "program": {"kind": "cnn_forward"},
        "faults": {"kinds": {"sram_data": 3, "accumulator": 2}},
    }
    seen: list[tuple[int, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for step in Campaign.from_tables(tables, source="bench").iter_run(Path(folder) / "run", jobs=1):
            seen.append((step.done, time.process_time(), _resident_mib()))
    edges = [next(row for row in seen if row[0] >= done) for done in (500, 1_500, trials - 1_000)] + [seen[-1]]
    first, last = ((b[1] - a[1]) / (b[0] - a[0]) for a, b in (edges[:2], edges[2:]))
    name = f"{trials // 1_000}k"
    peer = f"trials 501 to 1,500 of a stored campaign of {trials:,} forward trials (cnn_forward, values struck)"
    return [
        _row(f"campaign_decay_{name}", 1_000 * last, "s per 1,000", peer=peer, peer_value=1_000 * first),
        _row(f"campaign_growth_{name}", edges[-1][2] - edges[1][2], "MiB"),
    ]


def _resident_mib() -> float:
    """Memory of this process that is in use now; its peak where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / (1 << 20)


def forward_trials(kind: str, count: int = 600) -> dict[str, Any]:
    """Trials a second of a forward campaign of all kinds of fault alike, against its clean steps, in CPU time."""
    tables = {
        "campaign": {"name": "forward", "seed": 1, "trials": 1},
        "wafer": {"preset": "mini"},
        "program": {"kind": kind},
        "faults": {"kinds": dict.fromkeys(FAULT_KINDS, 1)},
    }
    bench = open_bench(Campaign.from_tables(tables, source="bench").spec)
    assert isinstance(bench, EmulatorBench)
    golden = bench.golden
    for k in range(count, count + 200):
        bench.trial(k)
    begin = time.thread_time()
    for k in range(count):
        bench.trial(k).to_row()
    mine = (time.thread_time() - begin) / count
    job = Job.start(golden.lowered, checkpoint=golden.states.state(0), queue_depth=bench.queue_depth, taps=True)
    begin = time.thread_time()
    for _ in range(golden.steps):
        job.run_step()
    whole = time.thread_time() - begin
    peer = f"the clean job of {golden.steps} steps, times a second"
    return _row(f"trials_per_s_{kind}", 1 / mine, "1/s", peer=peer, peer_value=1 / whole)


def figures(trials: int = TRIALS) -> list[dict[str, Any]]:
    """All rows."""
    with np.errstate(all="ignore"):
        return [
            *injections(),
            training_trials("statistical"),
            training_trials("exact"),
            forward_trials("cnn_forward"),
            forward_trials("gpt_forward"),
            *decay(trials),
        ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.injections")
    parser.add_argument("--trials", type=int, default=TRIALS, help="of the campaign whose decay is measured")
    parser.add_argument("--decay", action="store_true", help="measure the decay only")
    options = parser.parse_args()
    with np.errstate(all="ignore"):
        print(json.dumps(decay(options.trials) if options.decay else figures(options.trials), indent=2))
