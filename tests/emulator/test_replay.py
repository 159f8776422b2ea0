"""Trials of one pass: every output and sum as the whole pass gives them, and the clean pass afterwards as before."""

from __future__ import annotations

import tracemalloc
from functools import cache

import numpy as np
import pytest

from yieldkit.emulator.hooks import LaunchHooks, SramHook
from yieldkit.emulator.job import Job
from yieldkit.emulator.kernels import replay as kernel
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.replay import Replay, Strike
from yieldkit.emulator.tensor import TensorExecutor
from yieldkit.errors import BadInput
from yieldkit.workloads.cnn import cnn_forward
from yieldkit.workloads.decode import gpt_decode
from yieldkit.workloads.gpt import gpt_forward
from yieldkit.workloads.program import Gemm

GPT = {"layers": 1, "width": 8, "heads": 2, "context": 16, "vocabulary": 256}
PROGRAMS = {
    "fp32": lambda: gpt_forward(**GPT, sequences=1, rows=1, cols=2, dtype="fp32"),
    "bf16, two rows": lambda: gpt_forward(**GPT, sequences=2, rows=2, cols=2, dtype="bf16"),
    "fp16, two sequences a row": lambda: gpt_forward(**GPT, sequences=2, rows=1, cols=2, dtype="fp16"),
    "blocked": lambda: gpt_forward(
        **GPT, sequences=1, rows=1, cols=2, dtype="bf16", accumulation="bf16_blocked", block=2
    ),
    "several panels": lambda: gpt_forward(
        layers=2, width=40, heads=2, context=12, vocabulary=256, sequences=2, rows=2, cols=2, dtype="fp32"
    ),
    "cnn": lambda: cnn_forward(layers=2, channels=4, side=8, classes=8, samples=1, rows=1, cols=2, dtype="fp32"),
}


@cache
def made(name):
    low = lower(PROGRAMS[name](), sram_words=1 << 16)
    job = Job.start(low, taps=False)
    tokens, targets = job._batch()
    feeds = tuple(job.memoryx.streams(launch.launch, tokens, targets) for launch in low.launches)
    return low, feeds, Replay(low, feeds, sums=True)


def whole(low, feeds, struck=None, hooks=None):
    cores, outputs, sums = TensorExecutor(low, taps=True), {}, {}
    for launch, fed in zip(low.launches, feeds, strict=True):
        result = cores.launch(launch, fed, hooks if launch.index == struck else None)
        outputs |= result.outputs
        sums |= result.taps
    return outputs, sums


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32).reshape(-1)


def equal_everywhere(outcome, replay, outputs, sums):
    for name, array in outputs.items():
        assert np.array_equal(bits(outcome.outputs.get(name, replay.output(name))), bits(array)), name
    clean = {name: replay._array(replay.golden, version) for name, version in replay.taps.items()}
    for name, array in sums.items():
        assert np.array_equal(bits(outcome.sums.get(name, clean[name])), bits(array)), name


def drawn_hooks(low, rng, count):
    for _ in range(count):
        launch = low.launches[rng.integers(len(low.launches))]
        phase = int(rng.integers(len(launch.launch.phases)))
        r, c = int(rng.integers(low.program.rows)), int(rng.integers(low.program.cols))
        role = int(launch.role_of[r, c])
        held = [words for words in low.words_in_use(launch.index, phase, role) if words[2] == "tensor"]
        if held:
            start, size, _, name = held[rng.integers(len(held))]
            width = 32 if low.tensors[name].dtype == "fp32" else 16
            mask = 1 << int(rng.integers(width))
            yield launch, SramHook(r, c, phase, int(start + rng.integers(size)), mask)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_struck_word_of_sram_gives_what_the_whole_pass_gives(name):
    low, feeds, replay = made(name)
    rng = np.random.default_rng(4)
    followed = changed = 0
    with np.errstate(all="ignore"):
        for launch, hook in drawn_hooks(low, rng, 40):
            strike = replay.of_hook(launch, hook)
            if strike is None:
                continue
            outcome = replay.trial(strike)
            equal_everywhere(outcome, replay, *whole(low, feeds, launch.index, LaunchHooks(sram=(hook,))))
            followed += 1
            changed += outcome.changed > 0
    assert followed >= 20
    assert changed >= 5


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "blocked"])
def test_a_struck_weight_gives_what_the_whole_pass_gives(name):
    low, feeds, replay = made(name)
    products = [
        (number, launch.index, phase)
        for number, (launch, phase) in enumerate((x, phase) for x in low.launches for phase in x.launch.phases)
        if isinstance(phase, Gemm)
    ]
    rng = np.random.default_rng(5)
    changed = 0
    with np.errstate(all="ignore"):
        for number, index, phase in products:
            weights = np.array(feeds[index][phase.stream])
            assert replay.weights_shape(number) == weights.shape
            k, n = int(rng.integers(weights.shape[0])), weights.shape[1] - 1
            mask = 1 << int(rng.integers(23, 32))
            strike = replay.weight(number, k, n, 0xFFFFFFFF, mask)
            weights.view(np.uint32)[k, n] ^= np.uint32(mask)
            fed = [dict(streams) for streams in feeds]
            fed[index][phase.stream] = weights
            outcome = replay.trial(strike)
            equal_everywhere(outcome, replay, *whole(low, fed))
            changed += outcome.changed > 0
    assert changed


def drawn_strikes(low, replay, rng, count):
    """Words of SRAM and weights by turns."""
    products = [number for number, phase in enumerate(low.program.phases) if isinstance(phase, Gemm)]
    hooks = iter(drawn_hooks(low, rng, 3 * count))
    found = []
    while len(found) < count:
        if len(found) % 3 == 2 and replay._product_of:
            number = products[int(rng.integers(len(products)))]
            k, n = (int(rng.integers(size)) for size in replay.weights_shape(number))
            strike = replay.weight(number, k, n, 0xFFFFFFFF, 1 << int(rng.integers(32)))
        else:
            strike = replay.of_hook(*next(hooks))
        if strike is not None:
            found.append(strike)
    return found


def outside(replay, version):
    """Which words of a version are nobody's stale ones."""
    v, (r0, r1, lo, hi) = replay._versions[version], replay._stale[version]
    mine = np.ones((v.shape[0], v.shape[1], v.lines, v.size // (v.shape[0] * v.shape[1] * v.lines)), bool)
    mine[r0:r1, :, lo:hi] = False
    return mine.reshape(-1)


@pytest.mark.parametrize("name", PROGRAMS)
def test_trials_do_not_meet_and_what_is_not_stale_is_clean(name):
    low, feeds, replay = made(name)
    strikes = drawn_strikes(low, replay, np.random.default_rng(6), 60)
    with np.errstate(all="ignore"):
        together = replay.run(strikes)
        fresh = [Replay(low, feeds, sums=True).run([strike]) for strike in strikes[:12]]
        alone = np.concatenate([replay.run([strike]) for strike in reversed(strikes)])[::-1]
    assert np.array_equal(together[:12], np.concatenate(fresh))
    assert np.array_equal(together, alone)
    assert (replay._stale[:, 0] < replay._stale[:, 1]).any()
    clean_again(replay)


def clean_again(replay):
    assert not replay._box[:, :2].any()
    assert not replay._wrote[:, :2].any()
    read = {int(version) for version, _ in replay._reads} | set(replay.outputs.values())
    for version in read:
        kept = outside(replay, version)
        mine, clean = (bits(replay._array(memory, version))[kept] for memory in (replay.work, replay.golden))
        assert np.array_equal(mine, clean)


def test_only_changed_lines_are_run_and_a_masked_flip_ends_at_once():
    low, _, replay = made("fp32")
    phases = list(low.program.phases)
    last = max(number for number, phase in enumerate(phases) if isinstance(phase, Gemm))
    steps = len(phases)
    late = replay.trial(replay.word(last + 1, phases[last].y, (0, 0), 3, 0xFFFFFFFF, 1 << 30))
    assert late.changed
    assert 0 < late.phases < steps - last
    nothing = replay.trial(replay.word(last + 1, phases[last].y, (0, 0), 3, 0xFFFFFFFF, 0))
    assert (nothing.phases, nothing.last_phase, nothing.changed) == (0, -1, 0)


def test_a_word_that_is_overwritten_before_it_is_read_changes_nothing():
    low, _, replay = made("fp32")
    number = next(n for n, phase in enumerate(low.program.phases) if isinstance(phase, Gemm) and not phase.accumulate)
    strike = replay.word(number, low.program.phases[number].y, (0, 0), 0, 0xFFFFFFFF, 1 << 30)
    assert strike is not None
    assert replay.trial(strike).phases == 0


def test_rows_of_blocks_with_one_other_word_are_that_word_struck():
    low, _, replay = made("bf16, two rows")
    phases = list(low.program.phases)
    rng = np.random.default_rng(9)
    changed = 0
    for number in [n for n, phase in enumerate(phases) if isinstance(phase, Gemm)]:
        name = phases[number].y
        row, mask = int(rng.integers(2)), 1 << int(rng.integers(10, 15))
        struck = replay.trial(replay.word(number + 1, name, (row, 1), 5, 0xFFFFFFFF, mask))
        blocks = replay.found(number + 1, name)[row:].copy()
        word = blocks[0, 1].reshape(-1)[5:6]
        word.view(np.uint32)[0] ^= np.uint32(mask if low.tensors[name].dtype == "fp32" else mask << 16)
        several = replay.trial_of_rows(number + 1, name, row, blocks)
        assert several.words == struck.words
        assert several.outputs.keys() == struck.outputs.keys()
        for stream, array in struck.outputs.items():
            assert np.array_equal(bits(several.outputs[stream]), bits(array))
        changed += struck.changed
        with pytest.raises(BadInput, match="another shape"):
            replay.trial_of_rows(number + 1, name, 1, np.concatenate([blocks, blocks]))
    assert changed
    clean_again(replay)


def test_programs_whose_tensors_live_on_are_refused():
    low = lower(gpt_decode(side=2, layers=1, width=8, heads=2, context=4, sequences=2, prompts=[[1, 2], [3, 4]]))
    with pytest.raises(BadInput, match="live on"):
        Replay(low, [{} for _ in low.launches])


def test_the_clean_pass_is_read_only():
    _, _, replay = made("fp32")
    with pytest.raises(ValueError, match="read-only"):
        replay.golden[0] = 1.0


def test_memory_stays_flat_over_thousands_of_trials():
    low, _, replay = made("fp32")
    rng = np.random.default_rng(8)
    strikes = [replay.of_hook(launch, hook) for launch, hook in drawn_hooks(low, rng, 100)]
    events = np.array([strike.row for strike in strikes if strike is not None], np.int64)
    replay.run(events)
    tracemalloc.start()
    replay.run(events)
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(2_000 // len(events) + 1):
        replay.run(events)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000


def test_a_strike_beyond_the_program_runs_nothing():
    _, _, replay = made("fp32")
    strike = Strike((kernel.WORD, len(replay._steps), 0, 0, 0, 0x3F800000))
    assert replay.run([strike])[0, kernel.O_RUN] == 0
