"""It really learns: held-out loss, split by topic, against n-gram tables on the same windows."""

from __future__ import annotations

import pytest

from yieldkit.emulator.training import train
from yieldkit.fabric import Fabric
from yieldkit.workloads import GptShape

SHAPE = GptShape(layers=2, width=128, heads=16, context=32, sequences=16)


def test_a_short_training_beats_the_bigram_table() -> None:
    outcome = train(Fabric.perfect(16, 16), SHAPE, rows=16, cols=16, steps=200, checks=2, write=8, threads=2)
    (_, early), (step, late) = outcome.held_out
    assert step == 200
    # Measured 2.275 against 2.406; the run repeats itself in every bit, so the margin is not about noise.
    assert late < early
    assert late < outcome.bigram - 0.08
    assert late > outcome.trigram, "too good to be true after 200 steps: does training see the held-out text?"
    assert len(outcome.sample) == 8


def test_an_untrained_model_does_not_beat_the_bigram_table() -> None:
    outcome = train(Fabric.perfect(16, 16), SHAPE, rows=16, cols=16, steps=1, checks=1, learning_rate=1e-9)
    # ln 256 = 5.545, and a little more for the spread of the first logits.
    assert outcome.held_out[-1][1] == pytest.approx(5.6, abs=0.15)
    assert outcome.held_out[-1][1] > outcome.bigram


@pytest.mark.long
def test_a_longer_training_beats_the_trigram_table() -> None:
    outcome = train(Fabric.perfect(16, 16), SHAPE, rows=16, cols=16, steps=1200, checks=3, threads=2)
    assert outcome.held_out[-1][1] < outcome.trigram - 0.05
