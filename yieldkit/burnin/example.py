"""A commented campaign spec to start from."""

from __future__ import annotations

from typing import Final

__all__ = ["EXAMPLE_SPEC"]

EXAMPLE_SPEC: Final = """\
# A burn-in campaign: faults injected one by one into a workload on one wafer.
# Run it:      yieldkit burnin run campaign.toml --out runs/first --jobs 2
# Try a change: ... --set campaign.trials=500 --set faults.kinds.link_drop=5

[campaign]
name = "mini-gpt"
seed = 7                # trial k is fixed by this spec, the seed and k alone
trials = 200            # the budget; may be raised later in the same folder
round = 40              # stopping is decided at the end of complete rounds only
chunk = 4               # trials a transaction; about 2 seconds of work is a good size

# Stop before the budget when the rate of one label is known well enough.
# [campaign.stop]
# label = "SDC_BITS"
# half_width = 0.03     # of the two-sided Wilson interval
# confidence = 0.95

[wafer]
preset = "mini"         # or: spec = "my-wafer.toml" (paths start at the folder of this file)
id = "W01"

[wafer.defects]         # leave the table out for a perfect wafer
law = "negative_binomial"
d0_per_cm2 = 0.1
alpha = 2.0
seed = 1                # of the defects; the campaign's if absent
# ... or the defects of one wafer of an inspection file instead of a law:
# klarf = "lot.klarf"
# wafer_id = "02"
# place = "as_is"       # "as_is" or "scaled" to the diameter of this wafer

[wafer.repair]          # what is absent comes from the wafer
rule = "row_shift"

[program]
kind = "gpt_training"   # or moe_training, cnn_training, cnn_forward, gpt_decode, cg, ...; parameters follow

[faults]
sites = "used"          # "all": bypassed cores and links too

[faults.kinds]          # shares of the rate of faults; they need not add up to one
sram_data = 4           # weights, activations, gradients, cache; or one of them: sram_weights, ...
accumulator = 2
config = 2              # tables in SRAM, routes, registers; or one of them: sram_code, route, register
link_flip = 1
link_drop = 1

[faults.models]         # what is done to the struck bit; a flip of it, if the table is left out
bit = 3
adjacent_2 = 1          # or adjacent_N, random_N, stuck_0, stuck_1, value, zero

# Rare outcomes sooner: draws come that much more often here, and weigh that much less.
# [faults.importance]
# exponent_msb = 10

# Trials may end early: also when the loss has stayed near the clean run's.
# [trials]
# exit = "statistical"    # "exact" (the default): only where the rest is known bit for bit
# long_way = 0.01         # share of trials that run from the first step to the last too, and are compared

# Strata: a floor of trials in each, the rest where the target's rate is least certain.
# Look first: yieldkit burnin check campaign.toml
# [strata]
# by = ["site", "bit"]    # and "phase"
# floor = 4
# allocation = "neyman"   # or "proportional", by population
# target = "SDC_BITS"     # or several labels that count as one
# mix = 0.5               # share of the trials that goes by population all the same

# Raw rates turn rates of outcomes into failures in time (FIT); they alter no trial.
# [rates]
# sram = 100.0            # assumption: FIT per Mbit; put in what your process has
# register = 100.0        # assumption: FIT per Mbit
# link_flip = 0.01        # assumption: FIT per directed link
"""
