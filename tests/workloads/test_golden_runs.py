"""Whole runs of the GPT, from the first step to the last: their hashes, and the bar that the loss must pass.

The hashes were made by this code at the versions of `constraints.txt`; a value that depends on the machine, the number
of threads, the place on the wafer or the repair would change them.
"""

from __future__ import annotations

import numpy as np
import pytest

from yieldkit.emulator import run
from yieldkit.emulator.running import RunResult
from yieldkit.fabric import Fabric
from yieldkit.workloads import GptShape, gpt_decode, gpt_training, load_corpus

SHAPE = GptShape(layers=1, width=32, heads=4, context=16, sequences=4)
STEPS = 240
TRAINED = "30918bfbdbf66e54"
DECODED = "db8f458ea1b02ca6"
TOKENS = "20746865207468652074686520652020202020202020202020202074686520746865207468652068652074686520746865206173"


@pytest.fixture(scope="module")
def trained() -> RunResult:
    return run(gpt_training(SHAPE, rows=4, cols=4, seed=0), Fabric.perfect(4, 4), steps=STEPS)


def test_a_whole_training_run_ends_in_the_same_state_everywhere(trained: RunResult) -> None:
    assert trained.symptoms.status == "COMPLETED"
    assert len(trained.losses) == STEPS
    assert trained.state_hash == TRAINED


def test_its_loss_passes_the_bar(trained: RunResult) -> None:
    # ln 256 = 5.545 before anything is learnt; 3.27 is the entropy of single bytes, the best without context.
    train = np.frombuffer(load_corpus().train, np.uint8)
    share = np.bincount(train, minlength=256) / len(train)
    entropy = float(-(share[share > 0] * np.log(share[share > 0])).sum())
    assert trained.losses[0] == pytest.approx(5.55, abs=0.15)
    assert float(np.mean(trained.losses[-40:])) < entropy


def test_another_number_of_threads_and_another_place_change_no_bit(trained: RunResult) -> None:
    program = gpt_training(SHAPE, rows=4, cols=4, seed=0)
    other = run(program, Fabric.perfect(9, 7), steps=12, origin=(3, 2), threads=2)
    assert other.step_digests == trained.step_digests[:12]


def test_decoding_with_the_trained_model_gives_the_same_tokens_everywhere(trained: RunResult) -> None:
    tokens, _ = load_corpus().held_out_windows(4, SHAPE.sequences)
    program = gpt_decode(SHAPE, side=4, prompts=tokens[: SHAPE.sequences].astype(int).tolist())
    result = run(program, Fabric.perfect(4, 4), steps=SHAPE.context, weights=trained.memoryx.weights)
    assert result.symptoms.status == "COMPLETED"
    assert result.state_hash == DECODED
    assert bytes(result.tokens[:, 3:].astype(np.uint8).reshape(-1)).hex() == TOKENS
