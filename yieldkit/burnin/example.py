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
kind = "gpt_training"   # or "gpt_decode"; further parameters belong to the program

[faults]
sites = "used"          # "all": bypassed cores and links too

[faults.kinds]          # weights; they need not add up to one
sram_data = 4
accumulator = 2
config = 2
link_flip = 1
link_drop = 1
"""
