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


def _sine(angle: int) -> int:
    """65536 times the sine of `angle` steps of a turn of 128."""
    quarter = _TURN // 4
    part, place = divmod(angle % _TURN, quarter)
    value = _QUARTER[place] if part % 2 == 0 else _QUARTER[quarter - place]
    return value if part < 2 else -value


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

    def image(self, number: int) -> tuple[npt.NDArray[np.float32], int]:
        """Pixels float32[side, side] of image `number` and its label, `number` modulo the classes."""
        label = number % self.classes
        directions = self.classes // 2
        rng = generator(self.seed, "workloads.images.image", number)
        spread = _TURN // (2 * directions) // 3
        turn, row, col, radius, phase, contrast = (
            int(rng.integers(low, high))
            for low, high in (
                (-spread, spread + 1), (0, _ONE), (0, _ONE), (0, _ONE), (0, _ONE), (24, 64),
            )
        )  # fmt: skip
        angle = (label % directions) * (_TURN // 2) // directions + turn
        # Periods of 3 and 5 pixels: both fit a window, and neither is a multiple of the other.
        steps = _ONE // (3 if label >= directions else 5)
        y, x = np.mgrid[0 : self.side, 0 : self.side].astype(np.int64)
        along = (x * _sine(angle + _TURN // 4) + y * _sine(angle)) * steps >> 16
        wave = (along + phase) % _ONE
        # A triangle between -1 and 1 of the phase, in 16 bits.
        triangle = 4 * np.abs(wave - _ONE // 2) - _ONE
        # Centre in the middle three quarters of the image, radius from 3 to 5 sixteenths; in 16 bits of a pixel.
        span = self.side * _ONE
        cy, cx = (span // 8 + place * self.side * 3 // 4 for place in (row, col))
        reach = 3 * span // 16 + radius * self.side // 8
        dy, dx = (y * _ONE + _ONE // 2 - cy) >> 8, (x * _ONE + _ONE // 2 - cx) >> 8
        inside = dy * dy + dx * dx <= (reach >> 8) ** 2
        pixels = np.where(inside, contrast * triangle >> 16, 0)
        if self.noise:
            pixels = pixels + rng.integers(-self.noise, self.noise + 1, pixels.shape)
        return (np.clip(pixels, -127, 127) / 64).astype(np.float32), label

    def images(self, numbers: npt.ArrayLike) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Pixels float32[n, side * side] and labels int64[n] of the images of these numbers."""
        made = [self.image(int(number)) for number in np.asarray(numbers).reshape(-1)]
        pixels = np.stack([image.reshape(-1) for image, _ in made])
        return pixels, np.array([label for _, label in made], np.int64)

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
