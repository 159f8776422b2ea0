"""Workloads: Programs as data, networks, a stencil and a solver, the text to learn and the tables to beat."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from yieldkit.workloads.builder import ProgramBuilder, at
    from yieldkit.workloads.cnn import CnnShape, cnn_forward, cnn_training
    from yieldkit.workloads.conjugate_gradient import cg, cg_on_the_host
    from yieldkit.workloads.corpus import Corpus, load_corpus
    from yieldkit.workloads.decode import gpt_decode
    from yieldkit.workloads.gpt import GptShape, gpt_forward, gpt_training
    from yieldkit.workloads.images import ImageSet
    from yieldkit.workloads.mlp import MlpShape, mlp_forward, mlp_training
    from yieldkit.workloads.moe import MoeShape, moe_forward, moe_training
    from yieldkit.workloads.ngram import NgramModel, fit_ngram
    from yieldkit.workloads.poisson import stencil
    from yieldkit.workloads.program import Program

_HOMES: Final = {
    "CnnShape": "cnn",
    "Corpus": "corpus",
    "GptShape": "gpt",
    "ImageSet": "images",
    "MlpShape": "mlp",
    "MoeShape": "moe",
    "NgramModel": "ngram",
    "Program": "program",
    "ProgramBuilder": "builder",
    "at": "builder",
    "cg": "conjugate_gradient",
    "cg_on_the_host": "conjugate_gradient",
    "cnn_forward": "cnn",
    "cnn_training": "cnn",
    "fit_ngram": "ngram",
    "gpt_decode": "decode",
    "gpt_forward": "gpt",
    "gpt_training": "gpt",
    "load_corpus": "corpus",
    "mlp_forward": "mlp",
    "mlp_training": "mlp",
    "moe_forward": "moe",
    "moe_training": "moe",
    "stencil": "poisson",
}

__all__ = [
    "CnnShape",
    "Corpus",
    "GptShape",
    "ImageSet",
    "MlpShape",
    "MoeShape",
    "NgramModel",
    "Program",
    "ProgramBuilder",
    "at",
    "cg",
    "cg_on_the_host",
    "cnn_forward",
    "cnn_training",
    "fit_ngram",
    "gpt_decode",
    "gpt_forward",
    "gpt_training",
    "load_corpus",
    "mlp_forward",
    "mlp_training",
    "moe_forward",
    "moe_training",
    "stencil",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yieldkit.workloads' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"yieldkit.workloads.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
