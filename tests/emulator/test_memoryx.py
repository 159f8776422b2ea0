"""MemoryX: Adam against float64 NumPy, gradients of the embeddings, loss, and what is refused."""

import numpy as np
import pytest

from tests.emulator.tiny import GPT, batches, tiny_gpt
from yieldkit.emulator.job import Job
from yieldkit.emulator.memoryx import MemoryX, initial_parameters
from yieldkit.errors import BadInput
from yieldkit.workloads.gpt import GptShape, gpt_parameters, parameters
from yieldkit.workloads.program import Launch, Program, StreamIn, StreamOut, Tensor


class Adam64:
    """Adam as published (bias-corrected moments), in float64."""

    def __init__(self, weights, options):
        self.w = {n: w.astype(np.float64) for n, w in weights.items()}
        self.m = {n: np.zeros_like(w) for n, w in self.w.items()}
        self.v = {n: np.zeros_like(w) for n, w in self.w.items()}
        self.o, self.t = options, 0

    def update(self, grads):
        self.t += 1
        moved = 0.0
        # The decays as float32 holds them: 1 - 0.99 loses six digits of its own.
        beta1, beta2 = (float(np.float32(self.o[name])) for name in ("beta1", "beta2"))
        for n, g in grads.items():
            g = g.astype(np.float64)
            self.m[n] = beta1 * self.m[n] + (1 - beta1) * g
            self.v[n] = beta2 * self.v[n] + (1 - beta2) * g * g
            m = self.m[n] / (1 - self.o["beta1"] ** self.t)
            v = self.v[n] / (1 - self.o["beta2"] ** self.t)
            delta = self.o["learning_rate"] * m / (np.sqrt(v) + self.o["eps"])
            self.w[n] -= delta
            moved += float((delta**2).sum())
        return moved**0.5


def test_adam_against_float64():
    low = tiny_gpt()
    job = Job.start(low, batches=batches(6))
    oracle = Adam64(job.memoryx.weights, low.program.job["adam"])
    for step in range(6):
        tokens = batches(6)[step][0]
        before = {n: w.copy() for n, w in job.memoryx.weights.items()}
        result = job.run_step()
        after = job.memoryx.copy()
        grads = after.gradients(result.outputs, tokens)
        assert set(grads) == set(before)
        moved = oracle.update(grads)
        norm = sum(float((g.astype(np.float64) ** 2).sum()) for g in grads.values()) ** 0.5
        assert result.report.grad_norm == pytest.approx(norm, rel=1e-6)
        assert result.report.update_norm == pytest.approx(moved, rel=1e-4)
        for name, weight in job.memoryx.weights.items():
            # Every step moves a weight by about the learning rate; each may lose some fp32 roundings of itself.
            assert np.abs(weight - oracle.w[name]).max() < 1e-6, (name, step)
            assert np.abs(job.memoryx.first[name] - oracle.m[name]).max() < 1e-6 * np.abs(oracle.m[name]).max()
            assert np.abs(job.memoryx.second[name] - oracle.v[name]).max() < 1e-6 * np.abs(oracle.v[name]).max()


def test_gradients_of_the_embeddings_are_sums_over_their_uses():
    program = tiny_gpt().program
    host = MemoryX.initial(program)
    tokens = batches(1)[0][0]
    tokens[0, :3] = 7  # the same symbol several times
    rng = np.random.default_rng(0)
    stream = rng.normal(size=(2, 4, GPT["context"], 4)).astype(np.float32)
    grads = host.gradients({"embed.out": stream}, tokens)
    x = stream.transpose(0, 2, 1, 3).reshape(*tokens.shape, 16)
    symbols, positions = np.zeros_like(host.weights["wte"]), np.zeros_like(host.weights["wpe"])
    for n in range(tokens.shape[0]):
        for t in range(tokens.shape[1]):
            symbols[tokens[n, t]] += x[n, t]
            positions[t] += x[n, t]
    assert (grads["wte"].view(np.uint32) == symbols.view(np.uint32)).all()
    assert (grads["wpe"].view(np.uint32) == positions.view(np.uint32)).all()
    assert list(grads) == ["wte", "wpe"]


def test_embedded_tokens_lie_over_rows_and_columns():
    program = tiny_gpt().program
    host = MemoryX.initial(program)
    tokens, targets = batches(1)[0]
    stream = host.streams(program.launches[0], tokens, targets)["embed.in"]
    for n in range(2):
        for t in range(GPT["context"]):
            x = host.weights["wte"][tokens[n, t]] + host.weights["wpe"][t]
            assert (stream[n, :, t].reshape(-1) == x).all()


def test_a_copy_is_a_state_of_its_own():
    job = Job.start(tiny_gpt(), batches=batches(2))
    kept = job.memoryx.copy()
    before = kept.state_hash
    job.run_step()
    assert kept.state_hash == before != job.memoryx.state_hash
    again = Job.start(tiny_gpt(), memoryx=kept, batches=batches(2))
    again.run_step()
    assert again.memoryx.state_hash == job.memoryx.state_hash
    assert kept.state_hash == before


def test_initial_weights():
    shape = GptShape(**GPT)
    one, same, other = (initial_parameters(gpt_parameters(shape), seed) for seed in (3, 3, 4))
    assert {n: w.shape for n, w in one.items()} == parameters(shape)
    for name, weight in one.items():
        assert (weight == same[name]).all()
        if weight.ndim == 1:
            assert (weight == 1).all()
        else:
            assert (weight != other[name]).any()
            std = 0.05 / 2**0.5 if name.endswith((".wo", ".w2")) else 0.05
            # 5 standard errors of a standard deviation of n nearly normal numbers
            assert abs(weight.std() / std - 1) < 5 / (2 * weight.size) ** 0.5
            assert abs(weight.mean()) < 5 * std / weight.size**0.5


def test_what_does_not_fit_is_refused():
    program = tiny_gpt().program
    weights = MemoryX.initial(program).weights
    with pytest.raises(BadInput, match="weights"):
        MemoryX.initial(program, {n: w for n, w in weights.items() if n != "head"})
    with pytest.raises(BadInput, match="weights"):
        MemoryX.initial(program, {**weights, "head": weights["head"].T})
    host, launch = MemoryX.initial(program), next(x for x in program.launches if x.name == "head")
    with pytest.raises(BadInput, match="targets"):
        host.streams(launch, batches(1)[0][0], None)
    phases = (StreamIn("i", "t", "i", "scatter_row"), StreamOut("o", "t", "o", "gather_row"))
    bare = Program("bare", 1, 1, "bf16", (Tensor("t", "fp32", (1,)),), (Launch("l", phases),), {"kind": "none"})
    with pytest.raises(BadInput, match="no model"):
        MemoryX.initial(bare)
    with pytest.raises(BadInput, match="vocabulary of 256"):
        Job.start(tiny_gpt()).run_step()
