"""Sampled defects: counts, places and sizes against their laws, and draws that can be repeated."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from yieldkit.defects import BoseEinstein, CountLaw, DefectBatch, Murphy, NegativeBinomial, Poisson, Seeds
from yieldkit.defects.sampling import BLOCK
from yieldkit.errors import BadInput
from yieldkit.rng import generator
from yieldkit.wafer import WaferSpec

WSE3 = WaferSpec.preset("wse3")
N = 20_000


def _within_five_sigma(hits: float, n: int, p: float) -> bool:
    return abs(hits - n * p) <= 5 * math.sqrt(n * p * (1 - p)) + 1e-9


def _counts_follow(counts: npt.NDArray[np.int64], law: CountLaw, area_mm2: float) -> bool:
    """Whether the share of wafers with at most k defects is right at the deciles of the law."""
    n = len(counts)
    cumulative = np.cumsum(law.pmf(np.arange(3000), area_mm2=area_mm2))
    ks = np.searchsorted(cumulative, np.arange(1, 10) / 10)
    return all(_within_five_sigma(float((counts <= k).sum()), n, float(cumulative[k])) for k in ks)


LAWS = [
    Poisson(d0_per_cm2=0.1),
    NegativeBinomial(d0_per_cm2=0.1, alpha=2.0),
    Murphy(d0_per_cm2=0.1),
    Seeds(d0_per_cm2=0.1),
    BoseEinstein(d0_per_cm2=0.01, layers=10),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_counts_follow_the_law(law: CountLaw) -> None:
    batch = law.sample_wafers(WSE3, N, rng=1)
    assert _counts_follow(batch.counts, law, WSE3.silicon_mm2)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_a_die_cut_from_the_wafer_yields_the_closed_form(law: CountLaw) -> None:
    # A square of 30 mm in the middle of the wafer.
    batch = law.sample_wafers(WSE3, N, rng=2)
    inside = (np.abs(batch.x_mm) < 15) & (np.abs(batch.y_mm) < 15)
    owner = np.repeat(np.arange(N), batch.counts)
    clean = N - len(np.unique(owner[inside]))
    assert _within_five_sigma(clean, N, law.yield_(area_mm2=900.0))


def test_the_check_of_counts_can_fail() -> None:
    # Negative control: counts of one law against another, and a density that is 5 % off.
    batch = NegativeBinomial(d0_per_cm2=0.1, alpha=2.0).sample_wafers(WSE3, N, rng=1)
    assert not _counts_follow(batch.counts, Poisson(d0_per_cm2=0.1), WSE3.silicon_mm2)
    assert not _counts_follow(
        Poisson(d0_per_cm2=0.105).sample_wafers(WSE3, N, rng=1).counts, Poisson(d0_per_cm2=0.1), WSE3.silicon_mm2
    )


def _spread_evenly(batch: DefectBatch, wafer: WaferSpec) -> bool:
    """Whether the share of defects in each part of a 6 x 6 grid is that of its area inside the edge."""
    width, height = wafer.array_mm
    fine = (np.arange(1200) + 0.5) / 1200
    radius = wafer.diameter_mm / 2
    inside = np.hypot(*np.meshgrid((fine - 0.5) * width, (fine - 0.5) * height)) <= radius
    area = inside.reshape(6, 200, 6, 200).sum(axis=(1, 3)) / inside.sum()
    hits, _, _ = np.histogram2d(
        batch.y_mm, batch.x_mm, bins=6, range=[[-height / 2, height / 2], [-width / 2, width / 2]]
    )
    n = len(batch.x_mm)
    return all(_within_five_sigma(hits[i, j], n, area[i, j]) for i in range(6) for j in range(6))


@pytest.mark.parametrize("name", ["mini", "wse3"])
def test_places_are_uniform_over_the_silicon(name: str) -> None:
    wafer = WaferSpec.preset(name)
    batch = Poisson(d0_per_cm2=0.1).sample_wafers(wafer, 5000, rng=4)
    assert _spread_evenly(batch, wafer)
    assert (np.hypot(batch.x_mm, batch.y_mm) <= wafer.diameter_mm / 2).all()


def test_the_check_of_places_can_fail() -> None:
    wafer = WaferSpec.preset("mini")
    batch = Poisson(d0_per_cm2=0.1).sample_wafers(wafer, 5000, rng=4)
    squeezed = DefectBatch(batch.offsets, batch.x_mm * 0.97, batch.y_mm, batch.size_um, batch.layer)
    assert not _spread_evenly(squeezed, wafer)


@pytest.mark.parametrize("exponent", [3.0, 2.5])
def test_sizes_follow_the_process(exponent: float) -> None:
    wafer = WSE3.changed({"process.size_exponent": exponent})
    size = Poisson(d0_per_cm2=0.1).sample_wafers(wafer, 2000, rng=5).size_um
    smallest = wafer.process.smallest_size_um
    assert size.min() >= smallest
    for factor in (1.1, 1.5, 2.0, 5.0):
        above = factor ** (1 - exponent)
        assert _within_five_sigma(float((size > factor * smallest).sum()), len(size), above)
        # Negative control: the next exponent does not fit.
        assert not _within_five_sigma(float((size > factor * smallest).sum()), len(size), factor ** (0.8 - exponent))


def test_layers_are_drawn_alike() -> None:
    layer = BoseEinstein(d0_per_cm2=0.02, layers=5).sample_wafers(WSE3, 2000, rng=6).layer
    assert set(layer.tolist()) == {1, 2, 3, 4, 5}
    assert all(_within_five_sigma(float((layer == k).sum()), len(layer), 0.2) for k in range(1, 6))
    assert (Poisson(d0_per_cm2=0.1).sample(WSE3, rng=1).layer == 0).all()


def test_a_wafer_can_be_drawn_again_alone() -> None:
    law = NegativeBinomial(d0_per_cm2=0.1, alpha=2.0)
    many = law.sample_wafers(WSE3, BLOCK + 40, rng=9)
    for k in (0, 7, BLOCK - 1, BLOCK, BLOCK + 39):
        alone = law.sample_wafers(WSE3, 1, rng=9, first=k).wafer(0)
        assert (alone.x_mm == many.wafer(k).x_mm).all()
        assert (alone.size_um == many.wafer(k).size_um).all()
    part = law.sample_wafers(WSE3, 60, rng=9, first=BLOCK - 30)
    assert (part.counts == many.counts[BLOCK - 30 : BLOCK + 30]).all()
    one_by_one = list(law.iter_wafers(WSE3, 60, rng=9, first=BLOCK - 30))
    assert len(one_by_one) == 60
    assert (one_by_one[45].y_mm == part.wafer(45).y_mm).all()


def test_seeds_repeat_and_differ() -> None:
    law = Poisson(d0_per_cm2=0.1)
    a, b, c = (law.sample(WSE3, rng=seed) for seed in (7, 7, 8))
    assert (a.x_mm == b.x_mm).all()
    assert len(a) != len(c) or (a.x_mm != c.x_mm).any()
    assert len(a) == len(a.to_frame())
    # One draw pinned, so that a change of the stream is seen.
    assert (len(a), round(float(a.x_mm[0]), 6)) == PINNED


PINNED = (38, 29.731888)


def test_a_generator_is_used_as_it_is() -> None:
    law = Poisson(d0_per_cm2=0.1)
    rng = generator(3, "test")
    first, second = law.sample(WSE3, rng=rng), law.sample(WSE3, rng=rng)
    assert len(first) != len(second) or (first.x_mm != second.x_mm).any()
    with pytest.raises(BadInput, match="first needs a seed"):
        law.sample_wafers(WSE3, 2, rng=rng, first=1)
    assert len(law.sample_wafers(WSE3, 3, rng=rng)) == 3


def test_wrong_requests_are_refused() -> None:
    law = Poisson(d0_per_cm2=0.1)
    with pytest.raises(BadInput, match="n must be an integer of at least 1"):
        law.sample_wafers(WSE3, 0, rng=1)
    with pytest.raises(BadInput, match="rng must be"):
        law.sample(WSE3, rng=-1)
    with pytest.raises(BadInput, match="too many defects"):
        Poisson(d0_per_cm2=1e9).sample(WSE3, rng=1)
    with pytest.raises(BadInput, match="wafers 0 to 1"):
        law.sample_wafers(WSE3, 2, rng=1).wafer(2)


def test_no_defects_at_all() -> None:
    none = Poisson(d0_per_cm2=0.0).sample(WSE3, rng=1)
    assert len(none) == 0
    assert "0 defects" in none._repr_html_()
