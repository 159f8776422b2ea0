"""The batch of a step: windows of a corpus, or images made for the purpose, by `program.job["batch"]`.

A program without that entry is a GPT on its corpus. Sources::

    {"source": "corpus", "name": ..., "sequences": n, "length": T}      tokens and targets uint8[n, T]
    {"source": "images", "samples": n, "side": ..., "classes": ..., "noise": ...}
                                                                        pixels float32[n, side * side], labels int64[n]
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from yieldkit.errors import BadInput
from yieldkit.workloads.corpus import Corpus, load_corpus

if TYPE_CHECKING:
    from yieldkit.workloads.images import ImageSet

__all__ = ["batch_of", "batch_source"]

Batch = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def batch_source(job: Mapping[str, Any]) -> dict[str, Any]:
    """Where a job's batches come from.

    Raises:
        BadInput: the job says nothing about it.
    """
    if "batch" in job:
        return dict(job["batch"])
    model = job.get("model")
    if model is None or "corpus" not in job:
        raise BadInput("the program does not say where its batches come from", cure="give batches")
    if model["vocabulary"] < 256:
        raise BadInput("a byte corpus needs a vocabulary of 256", value=model["vocabulary"], cure="give batches")
    return {
        "source": "corpus",
        "name": job["corpus"],
        "sequences": model["sequences"],
        "length": model["context"],
    }


def batch_of(job: Mapping[str, Any], step: int) -> Batch:
    """Inputs and targets of a step; they depend on the job's source, its seed and the step only.

    Raises:
        BadInput: an unknown source, or sizes that do not fit.
    """
    source = batch_source(job)
    kind = source.get("source")
    if kind == "corpus":
        return _corpus(source["name"]).batch(step, source["sequences"], source["length"], job["seed"])
    if kind == "images":
        from yieldkit.workloads.images import ImageSet

        return _drawn(ImageSet.from_source(source), step, int(source["samples"]), int(job["seed"]))
    raise BadInput("a batch comes from a corpus or from images", value=kind)


@lru_cache(1 << 10)
def _drawn(images: ImageSet, step: int, samples: int, seed: int) -> Batch:
    """Batches that a campaign's trials ask for again and again; read-only."""
    pixels, labels = images.batch(step, samples, seed)
    pixels.setflags(write=False)
    labels.setflags(write=False)
    return pixels, labels


@cache
def _corpus(name: str) -> Corpus:
    return load_corpus(name)
