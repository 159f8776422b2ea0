"""Workloads: Programs as data, networks, a stencil and a solver, the text to learn and the tables to beat."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.workloads.builder import ProgramBuilder, at
    from yieldkit.workloads.conjugate_gradient import cg, cg_on_the_host
    from yieldkit.workloads.corpus import Corpus, load_corpus
    from yieldkit.workloads.decode import gpt_decode
    from yieldkit.workloads.gpt import GptShape, gpt_forward, gpt_training
    from yieldkit.workloads.ngram import NgramModel, fit_ngram
    from yieldkit.workloads.poisson import stencil
    from yieldkit.workloads.program import Program

_HOMES: Final = {
    "Corpus": "corpus",
    "GptShape": "gpt",
    "NgramModel": "ngram",
    "Program": "program",
    "ProgramBuilder": "builder",
    "at": "builder",
    "cg": "conjugate_gradient",
    "cg_on_the_host": "conjugate_gradient",
    "fit_ngram": "ngram",
    "gpt_decode": "decode",
    "gpt_forward": "gpt",
    "gpt_training": "gpt",
    "load_corpus": "corpus",
    "stencil": "poisson",
}

__all__ = [
    "Corpus",
    "GptShape",
    "NgramModel",
    "Program",
    "ProgramBuilder",
    "at",
    "cg",
    "cg_on_the_host",
    "fit_ngram",
    "gpt_decode",
    "gpt_forward",
    "gpt_training",
    "load_corpus",
    "stencil",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.workloads' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"yieldkit.workloads.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
