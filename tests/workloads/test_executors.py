"""MLP, CNN and mixture of experts on all three executors: equal bits, with and without faults; they fit and check."""

from functools import cache

import numpy as np
import pytest

from tests.emulator.tiny import perfect
from tests.faults.test_both_executors import compare
from yieldkit.emulator.checks import check_lowered
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import run
from yieldkit.errors import BadInput
from yieldkit.faults import FaultSampler
from yieldkit.workloads.cnn import CnnShape, cnn_forward, cnn_training
from yieldkit.workloads.mlp import mlp_forward, mlp_training
from yieldkit.workloads.moe import moe_forward, moe_training

IMAGES = {"side": 4, "classes": 4, "samples": 4}
SIZES = {
    "mlp": {"layers": 2, "width": 4, **IMAGES},
    "cnn": {"layers": 2, "channels": 2, **IMAGES},
    "moe": {
        "layers": 2, "width": 8, "heads": 2, "context": 4, "sequences": 4, "vocabulary": 16, "experts": 2, "every": 2,
    },
}  # fmt: skip
MAKERS = {
    "cnn_forward": cnn_forward, "cnn_training": cnn_training, "mlp_forward": mlp_forward, "mlp_training": mlp_training,
    "moe_forward": moe_forward, "moe_training": moe_training,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


@cache
def lowered(kind, dtype="bf16", rows=2, cols=2):
    return lower(MAKERS[kind](rows=rows, cols=cols, dtype=dtype, **SIZES[kind[:3]]))


def extra(kind):
    if kind[:3] != "moe":
        return {}
    return {"batches": [tuple(np.random.default_rng(step).integers(0, 16, (2, 4, 4))) for step in range(2)]}


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("kind", MAKERS)
def test_all_executors_give_the_same_bits(kind, dtype):
    low = lowered(kind, dtype)
    check_lowered(low)
    one, *others = (
        run(low, perfect(), steps=2, executor=name, **extra(kind)) for name in ("tensor", "reference", "wavelet")
    )
    assert one.symptoms.status == "COMPLETED"
    for other in others:
        assert other.step_digests == one.step_digests
        assert other.state_hash == one.state_hash
    assert one.job.executor.handed_on == 0
    # The wavelet executor's clock, and what the tensor executor works out from the tables.
    assert one.cycles == pytest.approx(others[1].cycles, rel=0.05)


@pytest.mark.parametrize("kind", ["cnn_training", "cnn_forward", "moe_training", "mlp_training"])
def test_faults_do_the_same_on_both_executors(kind):
    low = lowered(kind)
    placement = Placement.of(low.program, perfect(), (1, 2))
    sampler = FaultSampler(low, placement, 2)
    clean = compare(low, placement, [], 2, **extra(kind))
    changed = 0
    for seed in range(4):
        for number, fault in enumerate(("sram_data", "accumulator", "config", "link_flip", "link_drop")):
            event = sampler.draw(fault, np.random.default_rng([seed, number]))
            changed += compare(low, placement, [event], 2, **extra(kind)).state_hash != clean.state_hash
    assert changed >= 4


def test_the_full_cnn_fits_a_core():
    """8, 16 and 32 channels on 16 x 16 pixels, one image at a time, on one core and on eight."""
    for cols in (1, 2, 4, 8):
        low = lower(cnn_forward(CnnShape(samples=1), rows=1, cols=cols, dtype="fp32"))
        assert check_lowered(low).launches[-1].launch == "head"
        assert {launch.name for launch in low.launches} == {"conv0", "conv1", "conv2", "head"}


@pytest.mark.parametrize("kind", MAKERS)
def test_the_rectangle_changes_the_order_of_sums_and_little_else(kind):
    loss = [
        run(lowered(kind, "fp32", *shape), perfect(), **extra(kind)).losses[0] for shape in ((1, 1), (2, 2), (4, 1))
    ]
    assert loss[1] == pytest.approx(loss[0], rel=1e-5)
    assert loss[2] == pytest.approx(loss[0], rel=1e-5)


WRONG = {
    "samples must be a positive multiple of 8": lambda: cnn_training(samples=12),
    "channels must be a positive multiple of 8": lambda: cnn_training(channels=4),
    "classes must be a positive multiple of 8": lambda: mlp_training(classes=6),
    "width must be a positive multiple of 8": lambda: mlp_forward(width=12),
    "pixels must be a positive multiple of 8": lambda: mlp_training(side=10, rows=1),
    "side must be a multiple of 2": lambda: cnn_forward(side=12),
    "layers must be at least 1": lambda: mlp_training(layers=0),
    "unknown size of a CnnShape": lambda: cnn_training(depth=3),
    "by name or as a CnnShape": lambda: cnn_training(CnnShape(), layers=2),
    "2 experts or more": lambda: moe_training(experts=1),
    "at least every 2 layers": lambda: moe_training(every=3),
    "unknown size of a MoeShape": lambda: moe_forward(expert=3),
}


@pytest.mark.parametrize("said", WRONG)
def test_sizes_that_do_not_fit_are_one_line(said):
    with pytest.raises(BadInput, match=said) as caught:
        WRONG[said]()
    assert "\n" not in str(caught.value)
