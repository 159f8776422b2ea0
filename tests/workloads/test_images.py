"""The made images: the same everywhere, split by number, balanced, and of no use to a linear classifier."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yieldkit.errors import BadInput
from yieldkit.workloads import images as module
from yieldkit.workloads.batches import batch_of
from yieldkit.workloads.images import TRAINING, ImageSet

SETS = st.builds(
    ImageSet,
    side=st.sampled_from([4, 8, 16, 21]),
    classes=st.sampled_from([4, 6, 8, 16]),
    noise=st.integers(0, 63),
    seed=st.integers(0, 5),
)


def test_the_table_of_sines_is_rounded_right():
    for k, value in enumerate(module._SINE):
        assert abs(value - 65536 * math.sin(k * math.pi / 64)) <= 0.5
    assert len(module._SINE) == 128


@settings(deadline=None, derandomize=True, max_examples=60)
@given(SETS, st.lists(st.integers(0, 2 * TRAINING), min_size=1, max_size=6))
def test_an_image_depends_on_its_set_and_number_only(images, numbers):
    pixels, labels = images.images(numbers)
    assert pixels.shape == (len(numbers), images.side**2)
    assert pixels.dtype == np.float32
    assert (labels == np.array(numbers) % images.classes).all()
    scaled = pixels * 64
    assert (scaled == np.round(scaled)).all()
    assert np.abs(scaled).max() <= 127
    for place, number in enumerate(numbers):
        alone, _ = images.images([number])
        assert (alone[0] == pixels[place]).all()


def test_the_images_are_these():
    """Golden: made by this code; integers from Philox and no library function, so the same on every machine."""
    pixels, labels = ImageSet().images([0, 1, 7, TRAINING, TRAINING + 12345])
    assert labels.tolist() == [0, 1, 7, 0, 1]
    assert hashlib.sha256((pixels * 64).astype(np.int8).tobytes()).hexdigest()[:16] == "edc4cd20fef06d0f"


def test_batches_are_for_training_and_the_rest_is_held_out():
    images = ImageSet(side=8)
    held, _ = images.held_out(400)
    seen = {image.tobytes() for image in held}
    assert len(seen) == 400
    drawn = np.concatenate([images.batch(step, 16, 3)[0] for step in range(40)])
    assert not seen & {image.tobytes() for image in drawn}
    one, other = images.batch(5, 16, 3), images.batch(5, 16, 4)
    assert (one[0] == images.batch(5, 16, 3)[0]).all()
    assert (one[0] != other[0]).any()
    assert (one[0] != images.batch(6, 16, 3)[0]).any()


def test_a_job_draws_the_same_batch_as_its_set():
    source = {"source": "images", "samples": 6, "side": 8, "classes": 4, "noise": 9, "seed": 2}
    pixels, labels = batch_of({"batch": source, "seed": 7}, 3)
    right = ImageSet(8, 4, 9, 2).batch(3, 6, 7)
    assert (pixels == right[0]).all()
    assert (labels == right[1]).all()
    with pytest.raises(BadInput, match="corpus or from images"):
        batch_of({"batch": {"source": "radio"}, "seed": 0}, 0)
    with pytest.raises(BadInput, match="where its batches come from"):
        batch_of({"seed": 0}, 0)


def test_labels_are_balanced():
    """Uniform numbers: every class within 5 standard deviations of its share, and the classes of a biased draw not."""
    labels = np.concatenate([ImageSet(side=4).batch(step, 64, 1)[1] for step in range(50)])
    n, p = labels.size, 1 / 8
    away = np.abs(np.bincount(labels, minlength=8) - n * p)
    limit = 5 * math.sqrt(n * p * (1 - p))
    assert away.max() <= limit
    biased = np.abs(np.bincount(labels // 2 * 2, minlength=8) - n * p)
    assert biased.max() > limit


def test_a_linear_classifier_hardly_beats_chance():
    """Least squares on 4,096 images gets 19 % of 8 classes; a CNN gets over 90 % (`test_learning`)."""
    images = ImageSet()
    x, y = images.images(np.arange(4_096))
    held, right = images.held_out(2_048)
    x, held = (np.c_[pixels.astype(np.float64), np.ones(len(pixels))] for pixels in (x, held))
    w = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ np.eye(8)[y])
    assert np.mean((held @ w).argmax(1) == right) < 0.25
    # It is no straw man: with features that hold what tells classes apart, the energy at 16 angles and both periods
    # and its own phase, the same least squares gets most of them.
    ys, xs = np.mgrid[0:16, 0:16]
    waves = [
        np.exp(2j * np.pi * (xs * np.cos(t) + ys * np.sin(t)) / period).reshape(-1)
        for period in (3, 5) for t in np.arange(16) * np.pi / 16
    ]  # fmt: skip
    energy, tested = (np.abs(part[:, :-1] @ np.array(waves).T) for part in (x, held))
    energy, tested = (np.c_[part, np.ones(len(part))] for part in (energy, tested))
    w = np.linalg.lstsq(energy, np.eye(8)[y], rcond=None)[0]
    assert np.mean((tested @ w).argmax(1) == right) > 0.7


@pytest.mark.parametrize(
    ("said", "values"),
    [
        ("4 to 64 pixels", {"side": 3}),
        ("even number", {"classes": 5}),
        ("4 to 16", {"classes": 18}),
        ("noise", {"noise": -1}),
    ],
)
def test_what_is_refused(said, values):
    with pytest.raises(BadInput, match=said):
        ImageSet(**values)


def test_counts_are_refused():
    for call in (lambda: ImageSet().batch(-1, 4, 0), lambda: ImageSet().batch(0, 0, 0), lambda: ImageSet().held_out(0)):
        with pytest.raises(BadInput):
            call()
