"""Tables of byte n-grams: the yardstick that a trained model has to beat on the same windows.

The chance of byte `w` after context `h` mixes what was counted after `h` with the answer of the next shorter context,

    p(w | h) = (c(h, w) + k_m D(h) p(w | h')) / (c(h) + k_m D(h)),

`c` being counts, `D(h)` the number of different bytes seen after `h`, `h'` the context without its first byte, and `m`
the length of `h w`; below the single byte stands 1/256. With k = 1 this is the interpolation of Witten and Bell
(IEEE Trans. Inform. Theory 37, 1991, method C). Each k_m is chosen on the last tenth of the training text, with counts
from the other nine tenths; then all of the training text is counted. Held-out text takes no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput

__all__ = ["NgramModel", "fit_ngram"]

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BYTES = 256
MAX_ORDER = 5
TUNING_SHARE = 0.1
WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)


@dataclass(frozen=True, eq=False)
class _Table:
    """Counts of the grams of one length, keyed by the gram as a number in base 256."""

    grams: Ints  # int64[n], sorted
    gram_counts: Ints
    contexts: Ints  # int64[m], sorted: the grams without their last byte
    context_counts: Ints
    context_kinds: Ints  # different bytes seen after the context

    @classmethod
    def count(cls, text: Bytes, length: int) -> _Table:
        grams, gram_counts = np.unique(_codes(text[None, :], length)[0], return_counts=True)
        contexts, first, kinds = np.unique(grams // BYTES, return_index=True, return_counts=True)
        totals = np.add.reduceat(gram_counts, first)
        return cls(grams, gram_counts, contexts, totals, kinds)

    def chances(self, codes: Ints, shorter: Floats, weight: float) -> Floats:
        """Chances of the grams `codes`, given those of the same bytes after the next shorter context."""
        context = codes // BYTES
        pull = weight * _look_up(self.contexts, self.context_kinds, context)
        total = _look_up(self.contexts, self.context_counts, context)
        seen = _look_up(self.grams, self.gram_counts, codes)
        known = total > 0
        return np.where(known, (seen + pull * shorter) / np.where(known, total + pull, 1), shorter)


@dataclass(frozen=True, eq=False)
class NgramModel:
    """A fitted table; made by `fit_ngram`.

    Attributes:
        order: bytes in a gram: 1 unigram, 2 bigram, 3 trigram.
        weights: the chosen k, one for each length from 1 to `order`.
    """

    order: int
    weights: tuple[float, ...]
    _tables: tuple[_Table, ...] = field(repr=False)

    def chances(self, tokens: Bytes, targets: Bytes) -> Floats:
        """Chance of each target after the tokens of its own window.

        Args:
            tokens: uint8[n, length].
            targets: uint8[n, length], the byte that follows each token.

        Returns:
            float64[n, length]. Position t knows tokens 0 to t of its window and no byte before the window, as a model
            that reads the window does; where the context is cut short, the next lower order answers.

        Raises:
            BadInput: the arrays are not two-dimensional, of one shape, or of bytes.
        """
        return _chances(self._tables, self.weights, tokens, targets)

    def loss_nats(self, tokens: Bytes, targets: Bytes) -> float:
        """Mean of -log(chance) over all targets, in nats per byte; arguments and errors as in `chances`."""
        return float(-np.log(self.chances(tokens, targets)).mean())


def fit_ngram(train: Bytes, order: int) -> NgramModel:
    """Count the n-grams of a training text and choose how far to trust them.

    Args:
        train: uint8[n], at least 100 bytes.
        order: 1 to 5 bytes in a gram (2: bigram, 3: trigram).

    Raises:
        BadInput: the text is too short or not of bytes, or the order is out of range.
    """
    if train.dtype != np.uint8 or train.ndim != 1 or train.size < 100:
        raise BadInput("train must be uint8[n] with at least 100 bytes", value=f"{train.dtype}{list(train.shape)}")
    if not 1 <= order <= MAX_ORDER:
        raise BadInput(f"order must be from 1 to {MAX_ORDER}", value=order)
    cut = train.size - int(TUNING_SHARE * train.size)
    counted, tuning = train[:cut], train[cut:]
    trial = tuple(_Table.count(counted, length) for length in range(1, order + 1))
    weights: tuple[float, ...] = ()
    for length in range(1, order + 1):
        weights += (_best_weight(trial[:length], weights, tuning),)
    return NgramModel(order, weights, tuple(_Table.count(train, length) for length in range(1, order + 1)))


def _best_weight(tables: tuple[_Table, ...], weights: tuple[float, ...], tuning: Bytes) -> float:
    tokens, targets = tuning[None, :-1], tuning[None, 1:]
    losses = [-np.log(_chances(tables, (*weights, k), tokens, targets)).mean() for k in WEIGHTS]
    return WEIGHTS[int(np.argmin(losses))]


def _chances(tables: tuple[_Table, ...], weights: tuple[float, ...], tokens: Bytes, targets: Bytes) -> Floats:
    if tokens.ndim != 2 or tokens.shape != targets.shape or tokens.dtype != np.uint8 or targets.dtype != np.uint8:
        shapes = f"{tokens.dtype}{list(tokens.shape)} and {targets.dtype}{list(targets.shape)}"
        raise BadInput("tokens and targets must be uint8[n, length] of one shape", value=shapes)
    chances = np.full(tokens.shape, 1 / BYTES)
    # One row holds a window's first token and all its targets: the grams of length m that end in a target start at
    # column 0, so target t has one from t = m - 2 on.
    rows = np.concatenate([tokens[:, :1], targets], axis=1)
    for length, (table, weight) in enumerate(zip(tables, weights, strict=True), start=1):
        codes = _codes(rows, length)
        if length == 1:
            codes = codes[:, 1:]
        first = max(0, length - 2)
        chances[:, first:] = table.chances(codes, chances[:, first:], weight)
    return chances


def _codes(rows: Bytes, length: int) -> Ints:
    """The grams of each row as numbers: int64[n, columns - length + 1]."""
    columns = rows.shape[1] - length + 1
    codes = np.zeros((rows.shape[0], max(0, columns)), dtype=np.int64)
    for offset in range(length if columns > 0 else 0):
        codes = codes * BYTES + rows[:, offset : offset + columns]
    return codes


def _look_up(keys: Ints, values: Ints, wanted: Ints) -> Ints:
    """`values` of the wanted keys, 0 where a key is unknown; `keys` is sorted and not empty."""
    places = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[places] == wanted, values[places], 0)
