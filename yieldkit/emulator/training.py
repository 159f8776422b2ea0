"""Training a byte-level GPT on a booted fabric, scoring it on held-out text, and letting it write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from yieldkit.emulator.job import StepResult
from yieldkit.emulator.lowering import Lowered, lower
from yieldkit.emulator.memoryx import MemoryX
from yieldkit.emulator.placement import FabricView
from yieldkit.emulator.running import RunResult, run, sram_words_of
from yieldkit.errors import BadInput
from yieldkit.workloads.corpus import load_corpus
from yieldkit.workloads.decode import gpt_decode
from yieldkit.workloads.gpt import GptShape, gpt_forward, gpt_training
from yieldkit.workloads.moe import MoeShape, moe_forward
from yieldkit.workloads.ngram import fit_ngram
from yieldkit.workloads.program import Program

__all__ = ["TrainingOutcome", "held_out_loss", "train", "write_text"]

SAMPLE_WINDOWS: Final = 256


@dataclass(frozen=True)
class TrainingOutcome:
    """A training run and what came of it.

    Attributes:
        program: the training program.
        result: the run.
        loss: of each step, nats per byte.
        held_out: (step, loss) on held-out windows, nats per byte.
        bigram, trigram: loss of the n-gram tables on the same windows.
        prompt, sample: text given to the model and what it went on with.
        facts: corpus and sizes, for people.
    """

    program: Program
    result: RunResult
    loss: tuple[float, ...]
    held_out: tuple[tuple[int, float], ...]
    bigram: float
    trigram: float
    prompt: str
    sample: str
    facts: tuple[tuple[str, Any], ...]


def train(
    fabric: FabricView,
    shape: GptShape,
    *,
    rows: int,
    cols: int,
    steps: int,
    learning_rate: float = 3e-3,
    dtype: str = "bf16",
    seed: int = 0,
    checks: int = 3,
    write: int = 0,
    threads: int = 1,
    progress: Callable[[int, StepResult], None] | None = None,
) -> TrainingOutcome:
    """Train on the corpus and score on its held-out topics, beside n-gram tables fitted on the same split.

    Args:
        fabric: booted fabric.
        shape: sizes of the model and the batch.
        rows: rows of the rectangle.
        cols: its columns.
        steps: training steps.
        learning_rate: of Adam.
        dtype: operand format.
        seed: of weights and batches.
        checks: times the held-out loss is taken, evenly, the last one at the end.
        write: characters to write after the training (0: none); prompt and text must fit the context.
        threads: for matrix products; changes no bit.
        progress: called after each training step.
    """
    if checks < 1 or steps < checks:
        raise BadInput("steps must be at least checks, and checks at least 1", value=(steps, checks))
    program = gpt_training(shape, rows=rows, cols=cols, dtype=dtype, seed=seed, learning_rate=learning_rate)
    lowered = lower(program, sram_words=sram_words_of(fabric))
    memoryx: MemoryX | None = None
    losses: list[float] = []
    held_out: list[tuple[int, float]] = []
    result: RunResult | None = None
    for check in range(checks):
        part = steps * (check + 1) // checks - steps * check // checks
        result = run(lowered, fabric, steps=part, memoryx=memoryx, taps=False, threads=threads, progress=progress)
        memoryx = result.memoryx
        losses += result.losses
        if result.symptoms.steps_done < part:
            break
        held_out.append((memoryx.step, held_out_loss(fabric, shape, memoryx, rows=rows, cols=cols, dtype=dtype)))
    if result is None or memoryx is None:
        raise BadInput("nothing was trained", value=steps)
    corpus = load_corpus(program.job["corpus"])
    tokens, targets = corpus.held_out_windows(shape.context, SAMPLE_WINDOWS)
    bigram, trigram = (fit_ngram(corpus.train, order).loss_nats(tokens, targets) for order in (2, 3))
    prompt, sample = "", ""
    if write:
        prompt, sample = write_text(fabric, shape, memoryx, side=cols, dtype=dtype, characters=write)
    facts = (
        ("corpus", corpus.name),
        ("sha256", corpus.sha256),
        ("trained on", f"{len(corpus.train):,} bytes of {len(corpus.train_topics)} topics"),
        ("held out", f"{len(corpus.held_out):,} bytes of {len(corpus.held_out_topics)} topics"),
        ("model", ", ".join(f"{name} {value}" for name, value in asdict(shape).items())),
        ("parameters", sum(int(np.prod(w.shape)) for w in memoryx.weights.values())),
        ("rectangle", f"{rows} x {cols} cores"),
        ("operands", f"{dtype}, fp32 accumulation"),
        ("final state", result.memoryx.state_hash),
    )
    return TrainingOutcome(
        program, result, tuple(losses), tuple(held_out), float(bigram), float(trigram), prompt, sample, facts
    )


def held_out_loss(
    fabric: FabricView, shape: GptShape, memoryx: MemoryX, *, rows: int, cols: int, dtype: str = "bf16"
) -> float:
    """Mean loss in nats per byte over windows of the held-out topics, by the forward program on the same fabric."""
    program = memoryx.program
    corpus = load_corpus(program.job["corpus"])
    tokens, targets = corpus.held_out_windows(shape.context, SAMPLE_WINDOWS)
    n = shape.sequences
    batches = [(tokens[i : i + n], targets[i : i + n]) for i in range(0, len(tokens) - n + 1, n)]
    if isinstance(shape, MoeShape):
        forward = moe_forward(shape, rows=rows, cols=cols, dtype=dtype)
    else:
        forward = gpt_forward(shape, rows=rows, cols=cols, dtype=dtype)
    lowered: Lowered = lower(forward, sram_words=sram_words_of(fabric))
    result = run(lowered, fabric, steps=len(batches), weights=memoryx.weights, batches=batches, taps=False)
    return float(np.mean(result.losses))


def write_text(
    fabric: FabricView, shape: GptShape, memoryx: MemoryX, *, side: int, dtype: str, characters: int
) -> tuple[str, str]:
    """Let the model continue a held-out text: (prompt, continuation), greedily, by the decode program."""
    corpus = load_corpus(memoryx.program.job["corpus"])
    given = shape.context - characters
    if given < 1:
        raise BadInput(f"characters to write must be below the context of {shape.context}", value=characters)
    tokens, _ = corpus.held_out_windows(shape.context, SAMPLE_WINDOWS)
    # A prompt of words: the first of the windows with the most letters (tables and indents say little).
    letters = ((tokens[:, :given] | 0x20) - ord("a") < 26).sum(axis=1)
    prompt = tokens[int(letters.argmax()), :given].astype(int).tolist()
    one = GptShape(**{**asdict(shape), "sequences": 1})
    program = gpt_decode(one, side=side, dtype=dtype, prompts=[prompt])
    result = run(program, fabric, steps=shape.context - 1, weights=memoryx.weights, taps=False)
    written = result.tokens[0, given - 1 :]
    return bytes(prompt).decode("utf-8", "replace"), bytes(int(t) for t in written).decode("utf-8", "replace")
