"""Networks in plain NumPy float32 in the order of sums that the machine declares: equal to it in every bit.

The order is that of docs/numerics.md and nothing else of the machine is used, but for exp, log, recip, rsqrt and GELU,
which are sequences of fp32 operations of the project's own with tests of their own (tests/emulator/test_kernels_*).
Arrays are whole: tokens or samples in the order of rows, features in the order of columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yieldkit.emulator.kernels import scalar

F32 = np.float32
Params = dict[str, np.ndarray]


def every(function, x: np.ndarray) -> np.ndarray:
    """One of the machine's functions on every element."""
    return np.array([function(F32(v)) for v in x.reshape(-1)], np.float32).reshape(x.shape)


def up(parts: Sequence[np.ndarray], start: float | None = None) -> np.ndarray:
    """Sum from the first on: from the first part, or from a start."""
    total = parts[0].copy() if start is None else F32(start) + parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def product(x: np.ndarray, w: np.ndarray, cols: int) -> np.ndarray:
    """X W: k ascending from 0 in each column, then column after column."""
    share = len(w) // cols
    parts = []
    for c in range(cols):
        total = np.zeros((len(x), w.shape[1]), np.float32)
        for k in range(c * share, (c + 1) * share):
            total = total + x[:, k : k + 1] * w[k]
        parts.append(total)
    return up(parts)


def gradient(x: np.ndarray, dy: np.ndarray, rows: int) -> np.ndarray:
    """x^T dy: tokens ascending from 0 in each row, then row after row."""
    share = len(x) // rows
    return up([product(x[r * share : (r + 1) * share].T, dy[r * share : (r + 1) * share], 1) for r in range(rows)])


def over_tokens(x: np.ndarray, rows: int) -> np.ndarray:
    """Sum of all tokens: ascending from 0 in each row, then row after row."""
    return up([up(list(part), 0.0) for part in np.split(x, rows)])


def over_features(x: np.ndarray, cols: int) -> np.ndarray:
    """Sum of each token's features: ascending from 0 in each column, then column after column."""
    return up([up(list(part.T), 0.0) for part in np.split(x, cols, axis=1)])


def softmax_loss(z: np.ndarray, labels: np.ndarray, cols: int) -> tuple[np.ndarray, np.ndarray]:
    """Loss of each token, and the gradient of the mean by the logits."""
    hot = (labels[:, None] == np.arange(z.shape[1])).astype(np.float32)
    z = z - z.max(1, keepdims=True)
    e = every(scalar.exp32, z)
    total = over_features(e, cols)
    loss = every(scalar.log32, total) - over_features(hot * z, cols)
    dz = (e * every(scalar.recip32, total)[:, None] - hot) * F32(1.0 / len(z))
    return loss, dz


def dense(p: Params, name: str, x: np.ndarray, cols: int) -> np.ndarray:
    """X W + b."""
    return product(x, p[f"{name}.w"], cols) + p[f"{name}.b"]


def dense_back(p: Params, g: Params, name: str, x: np.ndarray, dz: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Gradients of a layer, and of its input."""
    g[f"{name}.w"] = gradient(x, dz, rows)
    g[f"{name}.b"] = over_tokens(dz, rows)
    return product(dz, p[f"{name}.w"].T, cols)


def mlp(p: Params, pixels: np.ndarray, labels: np.ndarray, rows: int, cols: int) -> tuple[np.ndarray, Params]:
    """Loss of each sample and all gradients."""
    layers = sum(name.startswith("dense") for name in p) // 2
    x = [pixels]
    for layer in range(layers):
        x.append(np.maximum(dense(p, f"dense{layer}", x[-1], cols), F32(0)))
    loss, dz = softmax_loss(dense(p, "head", x[-1], cols), labels, cols)
    g: Params = {}
    dx = dense_back(p, g, "head", x[-1], dz, rows, cols)
    for layer in reversed(range(layers)):
        dx = dense_back(p, g, f"dense{layer}", x[layer], np.where(x[layer + 1] != 0, dx, F32(0)), rows, cols)
    return loss, g


def patches(x: np.ndarray) -> np.ndarray:
    """[samples * side * side, 9, channels] of x[samples, side, side, channels], zeros beyond the border."""
    samples, side, _, channels = x.shape
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [wide[:, r : r + side, c : c + side] for r in range(3) for c in range(3)]
    return np.stack(taps, 3).reshape(samples * side * side, 9, channels)


def by_column(x: np.ndarray, cols: int) -> np.ndarray:
    """[..., tap, channel] flattened as k runs: the taps and channels of column 0, then of column 1, ..."""
    *rest, taps, channels = x.shape
    return x.reshape(*rest, taps, cols, channels // cols).swapaxes(-2, -3).reshape(*rest, taps * channels)


def windows(z: np.ndarray) -> list[np.ndarray]:
    """The four places of every pooling window, as views."""
    return [z[:, r::2, c::2] for r in range(2) for c in range(2)]


def cnn(p: Params, pixels: np.ndarray, labels: np.ndarray, rows: int, cols: int) -> tuple[np.ndarray, Params]:
    """Loss of each sample and all gradients."""
    layers = sum(name.startswith("conv") for name in p) // 2
    side = round(pixels.shape[1] ** 0.5)
    a, zs, tops = [pixels.reshape(-1, side, side, 1)], [], []
    for layer in range(layers):
        w = p[f"conv{layer}.w"]
        # The first layer has one channel, worked out alike in every column: one part of all taps.
        parts = cols if layer else 1
        x = by_column(patches(a[-1]), parts)
        turned = by_column(w.reshape(9, -1, w.shape[1]).transpose(2, 0, 1), parts).T
        z = product(x, turned, parts) + p[f"conv{layer}.b"]
        zs.append(z.reshape(*a[-1].shape[:3], -1))
        tops.append(np.maximum.reduce(windows(zs[-1])))
        a.append(np.maximum(tops[-1], F32(0)))
    samples, left, _, channels = a[-1].shape
    places = F32(1.0 / left**2)
    mean = up(list(a[-1].reshape(samples, -1, channels).swapaxes(0, 1)), 0.0) * places
    loss, dz = softmax_loss(dense(p, "head", mean, cols), labels, cols)
    g: Params = {}
    da = np.broadcast_to((dense_back(p, g, "head", mean, dz, rows, cols) * places)[:, None, None], a[-1].shape)
    for layer in reversed(range(layers)):
        rest = np.where(a[layer + 1] != 0, da, F32(0))
        dz = np.zeros_like(zs[layer])
        for place, target in zip(windows(zs[layer]), windows(dz), strict=True):
            target[...] = np.where(place == tops[layer], rest, F32(0))
            rest = rest - target
        w, side = p[f"conv{layer}.w"], a[layer].shape[1]
        flat = dz.reshape(-1, w.shape[1])
        g[f"conv{layer}.b"] = over_tokens(flat, rows)
        g[f"conv{layer}.w"] = gradient(patches(a[layer]).reshape(len(flat), -1), flat, rows)
        if layer:
            dp = product(flat, w.T, cols).reshape(*a[layer].shape[:3], 9, -1)
            wide = np.zeros((samples, side + 2, side + 2, a[layer].shape[3]), np.float32)
            for tap in range(9):
                r, c = divmod(tap, 3)
                wide[:, r : r + side, c : c + side] += dp[..., tap, :]
            da = wide[:, 1:-1, 1:-1]
    return loss, g


def norm(x: np.ndarray, cols: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows without their mean over their deviation, and one over the deviation."""
    share = F32(1.0 / x.shape[1])
    hat = x - (over_features(x, cols) * share)[:, None]
    scale = every(scalar.rsqrt32, over_features(hat * hat, cols) * share + F32(1e-5))
    return hat * scale[:, None], scale


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, length: int) -> np.ndarray:
    """Causal attention of tokens [n * length, width]; positions ascending in every sum."""

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(-1, length, heads, x.shape[1] // heads).swapaxes(1, 2)

    q, k, v = split(q), split(k), split(v)
    size = q.shape[-1]
    scores = up([q[..., f][..., :, None] * k[..., f][..., None, :] for f in range(size)], 0.0) * F32(size**-0.5)
    scores = scores + np.where(np.triu(np.ones((length, length), bool), 1), F32(-np.inf), F32(0))
    e = every(scalar.exp32, scores - scores.max(-1, keepdims=True))
    total = up([e[..., j] for j in range(length)], 0.0)
    weights = e * every(scalar.recip32, total)[..., None]
    mixed = up([weights[..., j][..., None] * v[..., j, :][..., None, :] for j in range(length)], 0.0)
    return mixed.swapaxes(1, 2).reshape(-1, heads * size)


def route(r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities [token, expert], mask of each token's expert, gate."""
    top = r.max(1, keepdims=True)
    hot = np.zeros_like(r)
    hot[np.arange(len(r)), (r == top).argmax(1)] = 1
    e = every(scalar.exp32, r - top)
    probs = e * every(scalar.recip32, up(list(e.T), 0.0))[:, None]
    return probs, hot, up(list((hot * probs).T), 0.0)


def moe(
    p: Params, tokens: np.ndarray, targets: np.ndarray, heads: int, rows: int, cols: int
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Loss of each token, logits, and [rows, 2, experts] of each mixture: shares of tokens and mean probabilities."""
    length = tokens.shape[1]
    x = (p["wte"][tokens] + p["wpe"]).reshape(tokens.size, -1)
    balances = []
    for layer in range(sum(name.endswith(".wq") for name in p)):
        w = {name.partition(".")[2]: value for name, value in p.items() if name.startswith(f"l{layer}.")}
        a = norm(x, cols)[0] * w["ln1"]
        q, k, v = (product(a, w[name], cols) for name in ("wq", "wk", "wv"))
        x = product(attention(q, k, v, heads, length), w["wo"], cols) + x
        a = norm(x, cols)[0] * w["ln2"]
        if "router" not in w:
            x = product(every(scalar.gelu32, product(a, w["w1"], cols)), w["w2"], cols) + x
            continue
        probs, hot, gate = route(product(a, w["router"], cols))
        y = np.zeros_like(x)
        for expert in range(hot.shape[1]):
            out = product(every(scalar.gelu32, product(a, w[f"e{expert}.w1"], cols)), w[f"e{expert}.w2"], cols)
            y = np.where(hot[:, expert : expert + 1] != 0, out, y)
        x = x + y * gate[:, None]
        share = F32(rows / len(x))
        groups = [[up(list(part), 0.0) * share for part in np.split(one, rows)] for one in (hot, probs)]
        balances.append(np.stack(groups, 1))
    logits = product(norm(x, cols)[0] * p["lnf"], p["head"], cols)
    return softmax_loss(logits, targets.reshape(-1), cols)[0], logits, balances
