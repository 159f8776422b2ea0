"""Write `gpt_torch.npz`: a small GPT in PyTorch, its loss, logits and gradients, as a golden for our own.

It needs PyTorch 2.13.0, which the project itself does not. Run it in an environment of its own::

    python3 -m venv torch-env && torch-env/bin/pip install torch==2.13.0 numpy
    torch-env/bin/python tests/golden/make_gpt_torch.py

The model, with `y = x @ W` and no bias anywhere::

    x = wte[token] + wpe[position]
    in each layer:
        a = norm(x) * ln1;  q, k, v = a @ wq, a @ wk, a @ wv
        x = x + concat_heads(softmax(causal(q k^T / sqrt(head size))) v) @ wo
        m = norm(x) * ln2;  x = x + gelu_tanh(m @ w1) @ w2
    logits = (norm(x) * lnf) @ head
    loss = mean over batch and positions of -log softmax(logits)[target]

`norm` subtracts the mean and divides by sqrt(biased variance + 1e-5); heads are contiguous runs of features. The same
numbers, which float32 holds exactly, are used in float64 and in float32, so each of the two is a golden of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

TARGET = Path(__file__).with_name("gpt_torch.npz")
VOCAB, WIDTH, LAYERS, HEADS, LENGTH, BATCH = 32, 16, 2, 4, 8, 4
SEED = 20240613


def draw() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Parameters (std 0.2, so that no gradient is tiny; gains near 1) as float32, tokens and targets as int64."""
    rng = np.random.Generator(np.random.Philox(SEED))

    def normal(*shape: int) -> np.ndarray:
        return (0.2 * rng.standard_normal(shape)).astype(np.float32)

    params = {"wte": normal(VOCAB, WIDTH), "wpe": normal(LENGTH, WIDTH)}
    for layer in range(LAYERS):
        params[f"l{layer}.ln1"] = 1 + normal(WIDTH)
        for name in ("wq", "wk", "wv", "wo"):
            params[f"l{layer}.{name}"] = normal(WIDTH, WIDTH)
        params[f"l{layer}.ln2"] = 1 + normal(WIDTH)
        params[f"l{layer}.w1"] = normal(WIDTH, 4 * WIDTH)
        params[f"l{layer}.w2"] = normal(4 * WIDTH, WIDTH)
    params["lnf"] = 1 + normal(WIDTH)
    params["head"] = normal(WIDTH, VOCAB)
    tokens, targets = rng.integers(0, VOCAB, size=(2, BATCH, LENGTH))
    return params, tokens, targets


def forward(params: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """Logits [batch, length, vocab]."""

    def norm(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (WIDTH,), weight=gain, bias=None, eps=1e-5)

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.view(BATCH, LENGTH, HEADS, WIDTH // HEADS).transpose(1, 2)

    x = params["wte"][tokens] + params["wpe"][torch.arange(LENGTH)]
    future = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    for layer in range(LAYERS):
        p = {name: params[f"l{layer}.{name}"] for name in ("ln1", "wq", "wk", "wv", "wo", "ln2", "w1", "w2")}
        a = norm(x, p["ln1"])
        q, k, v = split(a @ p["wq"]), split(a @ p["wk"]), split(a @ p["wv"])
        scores = q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        weights = scores.masked_fill(future, -torch.inf).softmax(-1)
        x = x + (weights @ v).transpose(1, 2).reshape(BATCH, LENGTH, WIDTH) @ p["wo"]
        m = norm(x, p["ln2"])
        x = x + F.gelu(m @ p["w1"], approximate="tanh") @ p["w2"]
    return norm(x, params["lnf"]) @ params["head"]


def main() -> None:
    """Run in both precisions and store parameters, inputs and answers; no pickle."""
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    params, tokens, targets = draw()
    sizes = {"vocab": VOCAB, "width": WIDTH, "layers": LAYERS, "heads": HEADS, "length": LENGTH, "batch": BATCH}
    stored: dict[str, np.ndarray] = {f"size/{name}": np.int64(size) for name, size in sizes.items()}
    stored |= {"tokens": tokens.astype(np.uint8), "targets": targets.astype(np.uint8)}
    stored |= {"torch_version": np.array(torch.__version__), "numpy_version": np.array(np.__version__)}
    stored |= {f"param/{name}": value for name, value in params.items()}
    for label, dtype in (("f64", torch.float64), ("f32", torch.float32)):
        leaves = {name: torch.tensor(value, dtype=dtype, requires_grad=True) for name, value in params.items()}
        logits = forward(leaves, torch.from_numpy(tokens))
        loss = F.cross_entropy(logits.reshape(-1, VOCAB), torch.from_numpy(targets).reshape(-1))
        loss.backward()
        stored[f"{label}/logits"] = logits.detach().numpy()
        stored[f"{label}/loss"] = loss.detach().numpy()
        for name, leaf in leaves.items():
            assert leaf.grad is not None
            stored[f"{label}/grad/{name}"] = leaf.grad.numpy()
        print(f"{label}: loss {loss.item():.12f}, torch {torch.__version__}")
    np.savez_compressed(TARGET, allow_pickle=False, **stored)


if __name__ == "__main__":
    main()
