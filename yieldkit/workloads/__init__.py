"""Workloads: Programs as data, the GPT in training and decoding, the text it learns and the n-gram tables to beat."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.workloads.builder import ProgramBuilder, at
    from yieldkit.workloads.corpus import Corpus, load_corpus
    from yieldkit.workloads.decode import gpt_decode
    from yieldkit.workloads.gpt import GptShape, gpt_forward, gpt_training
    from yieldkit.workloads.ngram import NgramModel, fit_ngram
    from yieldkit.workloads.program import Program

_HOMES: Final = {
    "Corpus": "corpus",
    "GptShape": "gpt",
    "NgramModel": "ngram",
    "Program": "program",
    "ProgramBuilder": "builder",
    "at": "builder",
    "fit_ngram": "ngram",
    "gpt_decode": "decode",
    "gpt_forward": "gpt",
    "gpt_training": "gpt",
    "load_corpus": "corpus",
}

__all__ = [
    "Corpus",
    "GptShape",
    "NgramModel",
    "Program",
    "ProgramBuilder",
    "at",
    "fit_ngram",
    "gpt_decode",
    "gpt_forward",
    "gpt_training",
    "load_corpus",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.workloads' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"yieldkit.workloads.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
