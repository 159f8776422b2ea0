"""Small images made for the purpose: windowed gratings, to be told apart by direction and period. Synthetic, all of it.

No picture here was taken of anything. What there is to learn is stated in full. The class of an image is the direction
(of `classes / 2`, evenly over half a turn) and the period (5 or 3 pixels) of a grating. All else is drawn per image
and says nothing about the class: a turn of up to a third of the way to the next direction, the phase, the place and
size of the round window through which the grating is seen, the contrast, and noise on every pixel.

Because the phase is uniform, the mean image of every class is the same, so that a linear score of the pixels answers
to a grating with either sign alike; a model must find edges and pool them over places. Everything is integer
arithmetic from counter-based random numbers, so that the images are equal in every bit on every machine. A pixel is n
/ 64 with n in -127..127, which bf16 holds exactly.

Image `number` of a set depends on the set and the number only; numbers below `TRAINING` are for training, the ones
from `TRAINING` on are held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.rng import Seed, generator

__all__ = ["TRAINING", "ImageSet"]

TRAINING: Final = 1 << 16
"""Images for training; the numbers from here on are held out."""

# round(65536 sin(k pi / 64)) for k = 0..32: a quarter of a turn. Literals, because libraries differ in the last place.
_QUARTER: Final = (
    0, 3216, 6424, 9616, 12785, 15924, 19024, 22078, 25080, 28020, 30893, 33692, 36410, 39040, 41576, 44011, 46341,
    48559, 50660, 52639, 54491, 56212, 57798, 59244, 60547, 61705, 62714, 63572, 64277, 64827, 65220, 65457, 65536,
)  # fmt: skip
_TURN: Final = 4 * (len(_QUARTER) - 1)
_ONE: Final = 1 << 16


_SINE: Final = np.array(
    [*_QUARTER[:-1], *_QUARTER[:0:-1], *(-v for v in _QUARTER[:-1]), *(-v for v in _QUARTER[:0:-1])]
)
"""65536 times the sine of each step of a turn of 128."""


@dataclass(frozen=True)
class ImageSet:
    """A set of images with its labels.

    Attributes:
        side: pixels of a side.
        classes: half as many directions, each with two periods; even, 4 to 16.
        noise: largest noise on a pixel, in units of a 64th.
        seed: of the set; another seed is another set of the same kind.
    """

    side: int = 16
    classes: int = 8
    noise: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.side < 4 or self.side > 64:
            raise BadInput("an image needs 4 to 64 pixels a side", value=self.side)
        if self.classes % 2 or not 4 <= self.classes <= 16:
            raise BadInput("there are 4 to 16 classes, an even number", value=self.classes)
        if not 0 <= self.noise <= 63:
            raise BadInput("noise must be 0 to 63", value=self.noise)

    @classmethod
    def from_source(cls, source: Mapping[str, Any]) -> ImageSet:
        """The set that a program's batch source names."""
        return cls(**{name: int(source[name]) for name in asdict(cls()) if name in source})

    def images(self, numbers: npt.ArrayLike) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Pixels float32[n, side * side] of the images of these numbers and labels int64[n], number modulo classes."""
        listed = np.asarray(numbers, np.int64).reshape(-1)
        directions = self.classes // 2
        spread = _TURN // (2 * directions) // 3
        # Turn, row, column, radius, phase, contrast.
        low, high = np.array([[-spread, 0, 0, 0, 0, 24], [spread + 1, _ONE, _ONE, _ONE, _ONE, 64]], np.int64)
        drawn = np.empty((len(listed), len(low), 1, 1), np.int64)
        noise = np.zeros((len(listed), self.side, self.side), np.int64)
        for place, number in enumerate(listed):
            rng = generator(self.seed, "workloads.images.image", int(number))
            drawn[place, :, 0, 0] = rng.integers(low, high)
            if self.noise:
                noise[place] = rng.integers(-self.noise, self.noise + 1, noise[place].shape)
        turn, row, col, radius, phase, contrast = (drawn[:, part] for part in range(len(low)))
        labels = listed % self.classes
        kind = labels[:, None, None]
        angle = (kind % directions) * (_TURN // 2) // directions + turn
        # Periods of 5 and 3 pixels: both fit a window, and neither is a multiple of the other.
        steps = np.where(kind < directions, _ONE // 5, _ONE // 3)
        y, x = np.mgrid[0 : self.side, 0 : self.side].astype(np.int64)
        along = (x * _SINE[(angle + _TURN // 4) % _TURN] + y * _SINE[angle % _TURN]) * steps >> 16
        # A triangle between -1 and 1 of the phase, in 16 bits.
        triangle = 4 * np.abs((along + phase) % _ONE - _ONE // 2) - _ONE
        # Centre in the middle three quarters of the image, radius from 3 to 5 sixteenths; in 16 bits of a pixel.
        span = self.side * _ONE
        dy, dx = (
            (axis * _ONE + _ONE // 2 - span // 8 - place * self.side * 3 // 4) >> 8
            for axis, place in ((y, row), (x, col))
        )
        reach = 3 * span // 16 + radius * self.side // 8
        inside = dy * dy + dx * dx <= (reach >> 8) ** 2
        pixels = np.where(inside, contrast * triangle >> 16, 0) + noise
        return (np.clip(pixels, -127, 127) / 64).astype(np.float32).reshape(len(listed), -1), labels

    def batch(self, step: int, samples: int, seed: Seed) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Training batch of a step: images of uniform numbers below `TRAINING`, by `(seed, step)` only.

        Raises:
            BadInput: a negative step, or no samples.
        """
        if step < 0:
            raise BadInput("step must not be negative", value=step)
        if samples < 1:
            raise BadInput("samples must be at least 1", value=samples)
        rng = generator(seed, "workloads.images.batch", step)
        return self.images(rng.integers(0, TRAINING, samples))

    def held_out(self, count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """The first `count` held-out images: the same ones for every model and run."""
        if count < 1:
            raise BadInput("count must be at least 1", value=count)
        return self.images(np.arange(TRAINING, TRAINING + count))
