"""The GPT of `make_gpt_torch.py` in plain NumPy float64, both ways by hand: an oracle that needs no torch."""

from __future__ import annotations

import numpy as np

EPS = 1e-5
Params = dict[str, np.ndarray]


def logits_of(params: Params, tokens: np.ndarray, layers: int, heads: int) -> np.ndarray:
    """Logits float64[batch, length, vocab] of tokens int[batch, length]."""
    params = {name: np.asarray(value, dtype=np.float64) for name, value in params.items()}
    return _forward(params, tokens, layers, heads)[0]


def loss_and_grads(
    params: Params, tokens: np.ndarray, targets: np.ndarray, layers: int, heads: int
) -> tuple[float, Params]:
    """Mean loss in nats over all positions, and its gradient by every parameter.

    Args:
        params: `wte` [vocab, d], `wpe` [at least length, d]; per layer l `l{l}.ln1` [d], `l{l}.wq`, `wk`, `wv`, `wo`
            [d, d], `l{l}.ln2` [d], `l{l}.w1` [d, 4d], `l{l}.w2` [4d, d]; `lnf` [d]; `head` [d, vocab].
        tokens: int[batch, length].
        targets: int[batch, length].
        layers: number of layers.
        heads: attention heads, contiguous runs of features.

    Returns:
        the loss, and float64 gradients under the names and in the shapes of the parameters.
    """
    p = {name: np.asarray(value, dtype=np.float64) for name, value in params.items()}
    tokens, targets = np.asarray(tokens, dtype=np.int64), np.asarray(targets, dtype=np.int64)
    logits, tape, last = _forward(p, tokens, layers, heads)
    shifted = logits - logits.max(-1, keepdims=True)
    log_chances = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    loss = -np.take_along_axis(log_chances, targets[..., None], -1).mean()

    g = {name: np.zeros_like(value) for name, value in p.items()}
    d_logits = np.exp(log_chances)
    np.put_along_axis(d_logits, targets[..., None], np.take_along_axis(d_logits, targets[..., None], -1) - 1, -1)
    d_logits /= targets.size
    d_normed = _product_back(g, p, "head", last[0] * p["lnf"], d_logits)
    dx = _norm_back(g, p, "lnf", last, d_normed)
    for layer in reversed(range(layers)):
        name, t = f"l{layer}.", tape[layer]
        d_act = _product_back(g, p, name + "w2", t["act"], dx)
        d_m = _product_back(g, p, name + "w1", t["norm2"][0] * p[name + "ln2"], d_act * _gelu_slope(t["up"]))
        dx = dx + _norm_back(g, p, name + "ln2", t["norm2"], d_m)

        d_mixed = _split(_product_back(g, p, name + "wo", _merge(t["weights"] @ t["v"]), dx), heads)
        d_v = t["weights"].swapaxes(-1, -2) @ d_mixed
        d_weights = d_mixed @ t["v"].swapaxes(-1, -2)
        d_scores = t["weights"] * (d_weights - (d_weights * t["weights"]).sum(-1, keepdims=True))
        d_scores /= np.sqrt(t["q"].shape[-1])
        d_q, d_k = d_scores @ t["k"], d_scores.swapaxes(-1, -2) @ t["q"]
        a = t["norm1"][0] * p[name + "ln1"]
        d_a = sum(_product_back(g, p, name + w, a, _merge(d)) for w, d in (("wq", d_q), ("wk", d_k), ("wv", d_v)))
        dx = dx + _norm_back(g, p, name + "ln1", t["norm1"], d_a)
    np.add.at(g["wte"], tokens, dx)
    g["wpe"][: tokens.shape[1]] = dx.sum(0)
    return float(loss), g


def _forward(p: Params, tokens: np.ndarray, layers: int, heads: int) -> tuple[np.ndarray, list[dict], tuple]:
    length = tokens.shape[1]
    x = p["wte"][tokens] + p["wpe"][:length]
    future = np.triu(np.ones((length, length), dtype=bool), 1)
    tape = []
    for layer in range(layers):
        w = {name: p[f"l{layer}.{name}"] for name in ("ln1", "wq", "wk", "wv", "wo", "ln2", "w1", "w2")}
        norm1 = _norm(x)
        a = norm1[0] * w["ln1"]
        q, k, v = (_split(a @ w[name], heads) for name in ("wq", "wk", "wv"))
        scores = np.where(future, -np.inf, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        x = x + _merge(weights @ v) @ w["wo"]
        norm2 = _norm(x)
        up = (norm2[0] * w["ln2"]) @ w["w1"]
        act = _gelu(up)
        x = x + act @ w["w2"]
        tape.append({"norm1": norm1, "q": q, "k": k, "v": v, "weights": weights, "norm2": norm2, "up": up, "act": act})
    last = _norm(x)
    return (last[0] * p["lnf"]) @ p["head"], tape, last


def _norm(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The normalised rows and one over their deviation, which the way back needs."""
    centred = x - x.mean(-1, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS)
    return centred * scale, scale


def _norm_back(g: Params, p: Params, gain: str, normed: tuple[np.ndarray, np.ndarray], d: np.ndarray) -> np.ndarray:
    unit, scale = normed
    g[gain] += (d * unit).reshape(-1, unit.shape[-1]).sum(0)
    d = d * p[gain]
    return scale * (d - d.mean(-1, keepdims=True) - unit * (d * unit).mean(-1, keepdims=True))


def _product_back(g: Params, p: Params, weight: str, x: np.ndarray, d: np.ndarray) -> np.ndarray:
    g[weight] += x.reshape(-1, x.shape[-1]).T @ d.reshape(-1, d.shape[-1])
    return d @ p[weight].T


def _split(x: np.ndarray, heads: int) -> np.ndarray:
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).swapaxes(1, 2)


def _merge(x: np.ndarray) -> np.ndarray:
    batch, heads, length, size = x.shape
    return x.swapaxes(1, 2).reshape(batch, length, heads * size)


_GELU = np.sqrt(2 / np.pi)


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(_GELU * (x + 0.044715 * x**3)))


def _gelu_slope(x: np.ndarray) -> np.ndarray:
    t = np.tanh(_GELU * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * _GELU * (1 + 3 * 0.044715 * x**2)
