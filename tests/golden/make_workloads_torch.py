"""Write `cnn_torch.npz`, `mlp_torch.npz` and `moe_torch.npz`: small models in PyTorch, as goldens for our own.

It needs PyTorch 2.13.0, which the project itself does not. Run it in an environment of its own::

    python3 -m venv torch-env && torch-env/bin/pip install torch==2.13.0 numpy
    torch-env/bin/python tests/golden/make_workloads_torch.py

The CNN: per layer a 3 x 3 convolution with zero padding and a bias, 2 x 2 max pooling, ReLU; mean over the places; a
linear head. Weights are [tap * channel in, channel out], taps row by row. The MLP: linear, ReLU, ..., linear. Both take
pixels [samples, side * side]. The loss is the mean cross-entropy.

The mixture of experts: the GPT of `make_gpt_torch.py` with MLPs of experts; per layer r = m @ router, p = softmax(r),
the expert of a token is argmax r, and x = x + p[expert] * (gelu_tanh(m @ e.w1) @ e.w2). `groups` consecutive parts of
the batch each have a balancing loss experts * sum_e share_e * mean(p_e); what is minimised is the mean cross-entropy
plus `balance` times the sum over layers of their mean. `loss` is the cross-entropy alone.

The same numbers, which float32 holds exactly, are used in float64 and in float32; of the float32 gradients only the
largest error is kept, relative to the gradient's largest element.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

FOLDER = Path(__file__).parent
Arrays = dict[str, np.ndarray]
Leaves = dict[str, torch.Tensor]
SIDE, CLASSES, SAMPLES = 8, 4, 4
CNN = {"layers": 2, "channels": 4}
MLP = {"layers": 2, "width": 8}
MOE = {"layers": 2, "width": 16, "heads": 4, "context": 8, "sequences": 4, "vocabulary": 32, "experts": 3}
GROUPS, BALANCE = 2, 0.25


def normal(rng: np.random.Generator, *shape: int, std: float = 0.2) -> np.ndarray:
    """Float32 numbers."""
    return (std * rng.standard_normal(shape)).astype(np.float32)


def classifier_batch(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixels n / 64 and labels."""
    pixels = rng.integers(-64, 65, (SAMPLES, SIDE * SIDE)).astype(np.float32) / 64
    return pixels, rng.integers(0, CLASSES, SAMPLES)


def cnn(p: Leaves, x: torch.Tensor) -> torch.Tensor:
    """Logits."""
    x = x.view(SAMPLES, 1, SIDE, SIDE)
    for layer in range(CNN["layers"]):
        w = p[f"conv{layer}.w"]
        kernel = w.view(3, 3, -1, w.shape[1]).permute(3, 2, 0, 1)
        x = F.relu(F.max_pool2d(F.conv2d(x, kernel, p[f"conv{layer}.b"], padding=1), 2))
    return x.mean((2, 3)) @ p["head.w"] + p["head.b"]


def mlp(p: Leaves, x: torch.Tensor) -> torch.Tensor:
    """Logits."""
    for layer in range(MLP["layers"]):
        x = F.relu(x @ p[f"dense{layer}.w"] + p[f"dense{layer}.b"])
    return x @ p["head.w"] + p["head.b"]


def moe(p: Leaves, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Logits [batch, length, vocabulary], the balancing loss, and the expert of every token a layer."""
    batch, length = tokens.shape
    width, heads, experts = MOE["width"], MOE["heads"], MOE["experts"]

    def norm(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (width,), weight=gain, bias=None, eps=1e-5)

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.view(batch, length, heads, width // heads).transpose(1, 2)

    x = p["wte"][tokens] + p["wpe"][torch.arange(length)]
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    extra, chosen = torch.zeros((), dtype=x.dtype), []
    for layer in range(MOE["layers"]):
        q = {name.removeprefix(f"l{layer}."): value for name, value in p.items() if name.startswith(f"l{layer}.")}
        a = norm(x, q["ln1"])
        query, key, value = split(a @ q["wq"]), split(a @ q["wk"]), split(a @ q["wv"])
        scores = query @ key.transpose(-1, -2) / (width // heads) ** 0.5
        weights = scores.masked_fill(future, -torch.inf).softmax(-1)
        x = x + (weights @ value).transpose(1, 2).reshape(batch, length, width) @ q["wo"]
        m = norm(x, q["ln2"])
        r = m @ q["router"]
        probs, top = r.softmax(-1), r.argmax(-1)
        outs = torch.stack([F.gelu(m @ q[f"e{e}.w1"], approximate="tanh") @ q[f"e{e}.w2"] for e in range(experts)], -1)
        mine = F.one_hot(top, experts).to(x.dtype)
        x = x + (outs * (mine * probs)[..., None, :]).sum(-1)
        share = mine.view(GROUPS, -1, experts).mean(1)
        extra = extra + experts * (share * probs.view(GROUPS, -1, experts).mean(1)).sum(-1).mean()
        chosen.append(top)
    return norm(x, p["lnf"]) @ p["head"], extra, chosen


def moe_parameters(rng: np.random.Generator) -> Arrays:
    """Parameters of the mixture of experts."""
    d, v = MOE["width"], MOE["vocabulary"]
    params = {"wte": normal(rng, v, d), "wpe": normal(rng, MOE["context"], d)}
    for layer in range(MOE["layers"]):
        p = f"l{layer}."
        params |= {p + "ln1": 1 + normal(rng, d), p + "ln2": 1 + normal(rng, d)}
        params |= {p + name: normal(rng, d, d) for name in ("wq", "wk", "wv", "wo")}
        params[p + "router"] = normal(rng, d, MOE["experts"])
        for e in range(MOE["experts"]):
            params |= {f"{p}e{e}.w1": normal(rng, d, 4 * d), f"{p}e{e}.w2": normal(rng, 4 * d, d)}
    return params | {"lnf": 1 + normal(rng, d), "head": normal(rng, d, v)}


def store(name: str, params: Arrays, facts: Arrays, answer: Callable[[Leaves], tuple[torch.Tensor, ...]]) -> None:
    """Run in both precisions; `answer` gives logits, the reported loss and what is minimised."""
    stored = dict(facts) | {"torch_version": np.array(torch.__version__)}
    stored |= {f"param/{key}": value for key, value in params.items()}
    for label, dtype in (("f64", torch.float64), ("f32", torch.float32)):
        leaves = {key: torch.tensor(value, dtype=dtype, requires_grad=True) for key, value in params.items()}
        logits, loss, minimised = answer(leaves)
        minimised.backward()
        stored |= {f"{label}/logits": logits.detach().numpy(), f"{label}/loss": loss.detach().numpy()}
        for key, leaf in leaves.items():
            assert leaf.grad is not None, key
            grad = leaf.grad.numpy()
            if label == "f64":
                stored[f"f64/grad/{key}"] = grad
            else:
                right = stored[f"f64/grad/{key}"]
                stored[f"f32/error/{key}"] = np.abs(grad - right).max() / np.abs(right).max()
        print(f"{name} {label}: loss {loss.item():.12f}, smallest gradient "
              f"{min(leaf.grad.abs().max().item() for leaf in leaves.values()):.2e}")  # fmt: skip
    np.savez_compressed(FOLDER / f"{name}_torch.npz", allow_pickle=False, **stored)


def main() -> None:
    """Write the three files; no pickle."""
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    rng = np.random.Generator(np.random.Philox(20240614))
    pixels, labels = classifier_batch(rng)
    facts = {"pixels": pixels, "labels": labels.astype(np.uint8)}

    def classifier(model: Callable[[Leaves, torch.Tensor], torch.Tensor]) -> Callable[[Leaves], tuple]:
        def answer(p: Leaves) -> tuple[torch.Tensor, ...]:
            logits = model(p, torch.tensor(pixels, dtype=p["head.w"].dtype))
            loss = F.cross_entropy(logits, torch.from_numpy(labels))
            return logits, loss, loss

        return answer

    params: Arrays = {}
    before = 1
    for layer in range(CNN["layers"]):
        features = CNN["channels"] << layer
        params |= {
            f"conv{layer}.w": normal(rng, 9 * before, features, std=0.5),
            f"conv{layer}.b": normal(rng, features),
        }
        before = features
    params |= {"head.w": normal(rng, before, CLASSES, std=0.5), "head.b": normal(rng, CLASSES)}
    store("cnn", params, facts, classifier(cnn))

    params, before = {}, SIDE * SIDE
    for layer in range(MLP["layers"]):
        params |= {f"dense{layer}.w": normal(rng, before, MLP["width"]), f"dense{layer}.b": normal(rng, MLP["width"])}
        before = MLP["width"]
    params |= {"head.w": normal(rng, before, CLASSES, std=0.5), "head.b": normal(rng, CLASSES)}
    store("mlp", params, facts, classifier(mlp))

    tokens, targets = rng.integers(0, MOE["vocabulary"], size=(2, MOE["sequences"], MOE["context"]))

    def mixture(p: Leaves) -> tuple[torch.Tensor, ...]:
        logits, extra, chosen = moe(p, torch.from_numpy(tokens))
        loss = F.cross_entropy(logits.reshape(-1, MOE["vocabulary"]), torch.from_numpy(targets).reshape(-1))
        print([torch.bincount(one.reshape(-1), minlength=MOE["experts"]).tolist() for one in chosen])
        return logits, loss, loss + BALANCE * extra

    facts = {"tokens": tokens.astype(np.uint8), "targets": targets.astype(np.uint8)}
    facts |= {"groups": np.int64(GROUPS), "balance": np.float64(BALANCE)}
    store("moe", moe_parameters(rng), facts, mixture)


if __name__ == "__main__":
    main()
