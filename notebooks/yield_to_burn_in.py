# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From defects to burn-in, on one wafer
#
# A wafer-scale processor is one wafer. It always has defects, so firmware maps them out, and every program sees
# the same perfect rectangle of cores. This notebook walks that road once, with the public API: a wafer, its
# defects, the repair, the firmware, a language model trained on the repaired fabric, faults in use, a burn-in
# campaign, blind diagnosis and a report. Everything is seeded. The `assert` lines hold on every machine.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import yieldkit as yk
from yieldkit.emulator import Placement, lower
from yieldkit.errors import BadFile

out = Path(tempfile.mkdtemp(prefix="yieldkit-"))
plt.rcParams |= {"figure.figsize": (5.2, 2.6), "figure.dpi": 72, "axes.grid": True, "grid.alpha": 0.3}

# %% [markdown]
# ## The wafer and its yield without repair
# `mini` is a small wafer with the structure of the large ones: clipped corners, reticle fields, holes, spare
# columns. Three counts are kept apart: cores that are physically there, cores that are enabled, cores that a
# program sees.

# %%
wafer = yk.WaferSpec.preset("mini")
height, width = wafer.logical_shape
print(f"{wafer.physical_cores} physical cores, {wafer.enabled_cores} enabled, {wafer.logical_cores} logical")
print(f"the fabric that programs see: {height} x {width}, {wafer.spares_per_row} spare columns")
assert (wafer.physical_cores, wafer.enabled_cores, wafer.logical_cores) == (469, 400, 360)

# %%
law = yk.NegativeBinomial(d0_per_cm2=0.05, alpha=2.0)
area = wafer.silicon_mm2
print(f"{law.mean(area_mm2=area):.1f} defects expected on {area:,.0f} mm² of silicon")
print(f"chance of none at all: {law.yield_(area_mm2=area):.2%}")

by_hand = (1 + 0.05 * area / 100 / 2.0) ** -2.0
assert abs(law.yield_(area_mm2=area) - by_hand) < 1e-15
assert round(law.yield_(area_mm2=area), 6) == 0.005305

# %% [markdown]
# ## Defects, and what they do
# The law gives the number, the places are uniform over the silicon. A defect kills or not, depending on what it
# lands on.

# %%
defects = law.sample(wafer, rng=5)
faults = yk.FaultMap.from_defects(wafer, defects, rng=5, wafer_id="W05")
print(len(defects), "defects:", faults.counts())
assert len(faults.dead_cores) == 2
assert len(faults.outcomes) == len(defects)

# %% [markdown]
# ## Repair
# Row shift: within a row a dead core is skipped, and the rest of the row moves along by one. The solver's plan is
# checked by code that has no solver in it.

# %%
rules = yk.RowShift.for_wafer(wafer)
plan = yk.plan_repair(faults, rules, wafer=wafer)
print(plan.summary().split(",")[0])
assert plan.status == "optimal"
assert plan.proven
assert yk.check_plan(faults, rules, plan) == []
dead = {(int(r), int(c)) for r, c in faults.unusable_cores}
assert not dead & {tuple(site) for site in plan.core_of.reshape(-1, 2).tolist()}

# %% [markdown]
# How much do spares buy? Every point decides the same 100 sampled wafers exactly; the bars are Wilson intervals
# at 95 %.

# %%
densities = (0.02, 0.05, 0.1, 0.2, 0.4)
curves = {}
for spares in (4, 2, 1):
    some = yk.RowShift.for_wafer(wafer, spares=spares)
    curves[spares] = [
        yk.repair_yield(wafer, yk.NegativeBinomial(d0_per_cm2=d0, alpha=2.0), some, n=100, rng=1) for d0 in densities
    ]

figure, axes = plt.subplots()
for spares, points in curves.items():
    value = np.array([p.value for p in points])
    below, above = (np.array([getattr(p, end) for p in points]) for end in ("low", "high"))
    bars = [np.maximum(value - below, 0), np.maximum(above - value, 0)]
    axes.errorbar(densities, value, yerr=bars, marker="o", capsize=3, label=f"{spares} spares")
axes.set(xscale="log", xlabel="defects per cm²", ylabel="yield", ylim=(-0.05, 1.05))
axes.set_xticks(densities, [f"{d0:g}" for d0 in densities])
axes.minorticks_off()
axes.legend()
plt.show()

assert curves[4][1].n == 100
assert curves[4][1].value >= curves[2][1].value >= curves[1][1].value

# %% [markdown]
# ## Firmware, boot
# The image is what a system would be flashed with. It boots on the wafer it was made for and on no other.

# %%
image = plan.firmware(wafer_id="W05", wafer=wafer)
image.save(out / "firmware.bin")
fabric = yk.Fabric.boot(yk.FirmwareImage.load(out / "firmware.bin"), wafer, wafer_id="W05")
print(f"{image.nbytes} bytes; {fabric}")
assert fabric.shape == (20, 18)

refusal = ""
try:
    yk.Fabric.boot(image, yk.WaferSpec.preset("wse2"))
except BadFile as error:
    refusal = str(error)
print("on another kind of wafer:", refusal)
assert "another kind of wafer" in refusal

# %% [markdown]
# ## A language model, trained on that fabric
# A small GPT learns the documentation topics of CPython byte by byte. Its weights are streamed in, gradients
# streamed out, and all sums have a fixed order. Beside it stands a table of byte pairs (bigrams) counted on the
# same training text.

# %%
sizes = {"layers": 1, "width": 64, "heads": 8, "context": 32, "sequences": 16}
program = yk.workloads.gpt_training(rows=16, cols=8, learning_rate=6e-3, **sizes)
trained = yk.run(program, fabric, steps=240, taps=False)

corpus = yk.workloads.load_corpus()
tokens, targets = corpus.held_out_windows(sizes["context"], 64)
batches = [(tokens[i : i + 16], targets[i : i + 16]) for i in range(0, 64, 16)]
forward = yk.workloads.gpt_forward(rows=16, cols=8, **sizes)
weights = trained.memoryx.weights
held_out = float(np.mean(yk.run(forward, fabric, steps=len(batches), weights=weights, batches=batches).losses))
bigram = yk.workloads.fit_ngram(corpus.train, 2).loss_nats(tokens, targets)

figure, axes = plt.subplots()
axes.plot(trained.losses, lw=0.8, label="training loss")
axes.axhline(held_out, color="C1", ls="--", label=f"held out, {held_out:.3f}")
axes.axhline(bigram, color="C2", ls=":", label=f"bigram table, {bigram:.3f}")
axes.set(xlabel="step", ylabel="nats per byte", ylim=(2, 6))
axes.legend()
plt.show()

assert trained.symptoms.status == "COMPLETED"
assert abs(trained.losses[0] - np.log(256)) < 0.05
assert held_out < bigram

# %% [markdown]
# ## One fault, two maps
# The experiment that makes the emulator worth something: the same physical fault, once on a map that uses the
# core it hits, once on a map that bypasses it. The sampler draws a bit, a step and a moment in an accumulator of
# physical core (7, 9); the second map declares that core dead.

# %%
small = yk.workloads.gpt_training(rows=8, cols=8, layers=1, width=32, heads=8, context=8, sequences=8)
site = (7, 9)
there = Placement.of(small, fabric, (2, 2))
sampler = yk.FaultSampler(lower(small), there, steps=3, sites=(site,))
event = sampler.draw("accumulator", np.random.default_rng(1))
print(event)

bypassing = yk.FaultMap.for_wafer(wafer, dead_cores=[*map(tuple, faults.dead_cores.tolist()), site], wafer_id="W05")
second_plan = yk.plan_repair(bypassing, rules, wafer=wafer)
second = yk.Fabric.boot(second_plan.firmware(wafer_id="W05", wafer=wafer), wafer)


def state(on, *events):
    origin = (2, 2)
    strikes = yk.FaultPlan(events, Placement.of(small, on, origin))
    return yk.run(small, on, steps=3, origin=origin, faults=strikes).state_hash


print("uses the core:    clean", state(fabric), "with the fault", state(fabric, event))
print("bypasses it:      clean", state(second), "with the fault", state(second, event))
assert fabric.logical_of(*site) is not None
assert second.logical_of(*site) is None
assert state(fabric) == state(second)
assert state(fabric, event) != state(fabric)
assert state(second, event) == state(second)

# %% [markdown]
# ## A lost word, seen from outside
# A word that is lost on a link starves its consumer, and in the end nothing moves. Nobody tells diagnosis what
# happened: it reads wait states, counters and hashes.

# %%
row, col = (int(v) for v in fabric.core_of[6, 6])
drow, dcol = (int(b - a) for a, b in zip(fabric.core_of[6, 6], fabric.core_of[6, 7], strict=True))
lost = yk.FaultEvent("link_drop", row, col, step=1, launch="f0.attention", drow=drow, dcol=dcol, colour=1, nth=40)
strikes = yk.FaultPlan([lost], Placement.of(small, fabric, (2, 2)))
stalled = yk.run(small, fabric, steps=3, origin=(2, 2), faults=strikes)
verdict = yk.diagnose(stalled.symptoms)
print(verdict)
assert stalled.symptoms.status == "STALL_DETECTED"
assert verdict.code == "STALL_DROP"
blamed = verdict.site_candidates[0]
assert (blamed.kind, blamed.row, blamed.col, blamed.drow, blamed.dcol) == ("link", row, col, drow, dcol)

# %% [markdown]
# ## A small campaign
# One random fault a trial, each fixed by `(seed, k)`. A referee who knows the fault and the clean run names the
# outcome.

# %%
(out / "campaign.toml").write_text(
    """
[campaign]
name = "notebook"
seed = 4
trials = 24

[wafer]
preset = "mini"
id = "W05"

[wafer.defects]
law = "negative_binomial"
d0_per_cm2 = 0.05
alpha = 2.0
seed = 5

[program]
kind = "gpt_training"
steps = 32

[faults.kinds]
sram_data = 3
accumulator = 2
config = 4
link_flip = 1
link_drop = 1
"""
)
campaign = yk.Campaign.from_toml(out / "campaign.toml")
run = campaign.run(out / "run", jobs=1)
table = yk.outcome_table(run)
table.query("kind == 'all'").round(3)

# %%
assert run.n == 24
assert table.query("kind == 'all'")["count"].sum() == 24
again = run.replay(5)
assert again.equal

# %% [markdown]
# Rates from 24 trials are wide, and the table says so. Now the blind judge: `classify` sees symptoms and what
# clean runs look like, never the injected fault.

# %%
baseline = yk.burnin.baseline_of(run.clean_observations)
records = list(run.records())
verdicts = [yk.burnin.verdict_of(record, baseline=baseline) for record in records]
yk.confusion([record.label for record in records], [answer.code for answer in verdicts])

# %% [markdown]
# ## The report
# One HTML file that is complete in itself: the wafer to zoom into, repair, outcomes with their intervals,
# confusion.

# %%
report = yk.write_report(run, out / "report.html")
print(f"{report.name}: {report.stat().st_size / 1024:.0f} KiB")
assert "<html" in report.read_text()[:200]
