"""Seconds of one training step of our GPT in PyTorch eager on one thread: the peer of `gpt_step_vs_torch`.

By hand::

    python -m tests.bench.torch_gpt 64 2 8 32 32 256

prints one JSON object with the median of each variant. Where the project's own environment has no torch, the variable
`YIELDKIT_TORCH_PYTHON` may name a Python that has one; the measurement then runs there, in the same bench run.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["torch_step_seconds", "torch_step_variants"]

WARM_UP = 3


def torch_step_seconds(
    d: int, layers: int, heads: int, T: int, batch: int, vocab: int, steps: int = 20
) -> float | None:
    """Median seconds of a full step in fp32, forward, backward and Adam, of the fastest variant; None without torch."""
    variants = torch_step_variants(d, layers, heads, T, batch, vocab, steps)
    return min(seconds for name, seconds in variants.items() if name != "torch") if variants else None


def torch_step_variants(
    d: int, layers: int, heads: int, T: int, batch: int, vocab: int, steps: int = 20
) -> dict[str, Any]:
    """Median seconds by variant, `<attention>+<adam>`, and torch's version; empty when there is no torch.

    Attention is written out with a softmax (`manual`) or is `scaled_dot_product_attention` (`sdpa`); Adam is the
    default of `torch.optim.Adam` (`adam`) or its one-kernel form (`fused`). The variants take turns, so that a slow
    spell of the machine falls on all of them.
    """
    if importlib.util.find_spec("torch") is not None:
        return _measure(d, layers, heads, T, batch, vocab, steps)
    elsewhere = os.environ.get("YIELDKIT_TORCH_PYTHON")
    if not elsewhere:
        return {}
    sizes = [str(size) for size in (d, layers, heads, T, batch, vocab, steps)]
    done = subprocess.run(
        [elsewhere, "-m", "tests.bench.torch_gpt", *sizes],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(json.loads(done.stdout))


def _measure(d: int, layers: int, heads: int, T: int, batch: int, vocab: int, steps: int) -> dict[str, Any]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator = torch.Generator().manual_seed(1)
        tokens, targets = torch.randint(vocab, (2, batch, T), generator=generator)
        runs = {}
        for attention in ("manual", "sdpa"):
            for adam in ("adam", "fused"):
                model = _model(d, layers, heads, T, vocab, attention)
                optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=adam == "fused")
                runs[f"{attention}+{adam}"] = (model, optimiser)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for step in range(WARM_UP + steps):
            for name, (model, optimiser) in runs.items():
                begin = time.perf_counter()
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(model(tokens).view(-1, vocab), targets.view(-1)).backward()
                optimiser.step()
                if step >= WARM_UP:
                    seconds[name].append(time.perf_counter() - begin)
    finally:
        torch.set_num_threads(threads)
    return {name: statistics.median(times) for name, times in seconds.items()} | {"torch": torch.__version__}


def _model(d: int, layers: int, heads: int, T: int, vocab: int, attention: str) -> Any:
    """The model of `tests/golden/make_gpt_torch.py` as one would write it: modules, no bias, tanh GELU."""
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln1, self.ln2 = nn.LayerNorm(d, bias=False), nn.LayerNorm(d, bias=False)
            self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
            self.up, self.down = nn.Linear(d, 4 * d, bias=False), nn.Linear(4 * d, d, bias=False)
            self.register_buffer("future", torch.ones(T, T, dtype=torch.bool).triu(1))

        def forward(self, x: Any) -> Any:
            n, length, _ = x.shape
            q, k, v = (
                part.view(n, length, heads, d // heads).transpose(1, 2)
                for part in self.qkv(self.ln1(x)).split(d, dim=-1)
            )
            if attention == "sdpa":
                mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            else:
                scores = (q @ k.transpose(-1, -2)) / math.sqrt(d // heads)
                mixed = scores.masked_fill(self.future, -math.inf).softmax(-1) @ v
            x = x + self.out(mixed.transpose(1, 2).reshape(n, length, d))
            return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))

    class Gpt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, d), nn.Embedding(T, d)
            self.layers = nn.ModuleList(Layer() for _ in range(layers))
            self.lnf, self.head = nn.LayerNorm(d, bias=False), nn.Linear(d, vocab, bias=False)
            self.register_buffer("positions", torch.arange(T))

        def forward(self, tokens: Any) -> Any:
            x = self.wte(tokens) + self.wpe(self.positions)
            for layer in self.layers:
                x = layer(x)
            return self.head(self.lnf(x))

    torch.manual_seed(2)
    return Gpt()


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    if not 6 <= len(arguments) <= 7:
        sys.exit("usage: python -m tests.bench.torch_gpt D LAYERS HEADS T BATCH VOCAB [STEPS]")
    print(json.dumps(torch_step_variants(*arguments)))
