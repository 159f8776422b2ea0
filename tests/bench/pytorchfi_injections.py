"""Injections a second with PyTorchFI: the peer of `injections_vs_pytorchfi`.

By hand, with a Python that has torch and pytorchfi 0.6.0::

    python -m tests.bench.pytorchfi_injections 1000

prints one JSON object. Settings: one thread, fp32, batch 1, no gradients; half of the injections flip a random bit
of a random output of a random layer (`declare_neuron_fi` with a function), half one of a random weight
(`declare_weight_fi`); a fresh `fault_injection` object every 500 injections; every injection runs the corrupted model
on the input and compares what comes out with the clean output. Seconds are CPU time of the thread. Layers:
`Linear` in the transformer, `Conv2d` and `Linear` in the CNN.

Where the project's own environment has neither, `YIELDKIT_TORCH_PYTHON` may name a Python that has both.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.torch_gpt import _model

__all__ = ["SETTINGS", "peer_figures"]

SETTINGS = "one thread, fp32, batch 1, bit flips half in outputs, half in weights, a fresh object every 500"
TRANSFORMER = {"d": 128, "layers": 4, "heads": 8, "T": 64, "vocabulary": 256}
CNN = {"layers": 3, "channels": 8, "side": 16, "classes": 8}
FRESH = 500


def peer_figures(injections: int = 500) -> dict[str, Any]:
    """Injections a second by model, seconds of a clean forward pass, versions; empty where there is no PyTorchFI."""
    if importlib.util.find_spec("torch") is not None and importlib.util.find_spec("pytorchfi") is not None:
        return measure(injections)
    elsewhere = os.environ.get("YIELDKIT_TORCH_PYTHON")
    if not elsewhere:
        return {}
    done = subprocess.run(
        [elsewhere, "-m", "tests.bench.pytorchfi_injections", str(injections)],
        cwd=Path(__file__).parents[2],
        check=False,
        capture_output=True,
        text=True,
    )
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def measure(injections: int) -> dict[str, Any]:
    """Both models, in this process."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    figures: dict[str, Any] = {"torch": torch.__version__, "settings": SETTINGS, "injections": injections}
    sizes = TRANSFORMER
    gpt = _model(sizes["d"], sizes["layers"], sizes["heads"], sizes["T"], sizes["vocabulary"], "sdpa").eval()
    tokens = torch.randint(sizes["vocabulary"], (1, sizes["T"]))
    figures["transformer"] = _injections(_tokens_as_floats(gpt), tokens.float(), [torch.nn.Linear], injections)
    image = torch.randn(1, 1, CNN["side"], CNN["side"])
    figures["cnn"] = _injections(_cnn().eval(), image, [torch.nn.Conv2d, torch.nn.Linear], injections)
    return figures


def _tokens_as_floats(gpt: Any) -> Any:
    """PyTorchFI feeds random floats to learn shapes; symbols are read back from them."""
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gpt = gpt

        def forward(self, x: Any) -> Any:
            return self.gpt(x.abs().long() % TRANSFORMER["vocabulary"])

    return Wrapped()


def _cnn() -> Any:
    """The model of `yieldkit.workloads.cnn`: 3 x 3 convolutions, 2 x 2 pooling, ReLU; the mean goes to the head."""
    from torch import nn

    layers: list[Any] = []
    before = 1
    for layer in range(CNN["layers"]):
        after = CNN["channels"] << layer
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CNN["classes"]))


def _flipped(value: float, bit: int) -> float:
    (word,) = struct.unpack("<I", struct.pack("<f", value))
    (flipped,) = struct.unpack("<f", struct.pack("<I", word ^ (1 << bit)))
    return float(flipped)


def _injections(model: Any, x: Any, kinds: list[Any], injections: int) -> dict[str, float]:
    import torch
    from pytorchfi.core import fault_injection

    draw = random.Random(7)
    with torch.no_grad():
        golden = model(x)
        clean = []
        for _ in range(100):
            begin = time.thread_time()
            model(x)
            clean.append(time.thread_time() - begin)
        begin = time.thread_time()
        different = 0
        injector = None
        for number in range(injections):
            if number % FRESH == 0:
                injector = fault_injection(model, 1, input_shape=list(x.shape[1:]), layer_types=kinds, use_cuda=False)
            assert injector is not None
            layer = draw.randrange(injector.get_total_layers())
            bit = draw.randrange(32)
            if number % 2:
                corrupted = _weight(injector, layer, bit, draw)
            else:
                corrupted = _output(injector, layer, bit, draw)
            different += not torch.equal(corrupted(x), golden)
        seconds = time.thread_time() - begin
    return {
        "injections_per_s": injections / seconds,
        "forward_s": statistics.median(clean),
        "different": different / injections,
    }


def _output(injector: Any, layer: int, bit: int, draw: random.Random) -> Any:
    shape = list(injector.get_layer_shape(layer))
    place = [0, *(draw.randrange(n) for n in shape[1:])]
    seen = [-1]

    def strike(module: Any, inputs: Any, output: Any) -> None:
        seen[0] += 1
        if seen[0] == layer:
            output[tuple(place)] = _flipped(float(output[tuple(place)]), bit)

    dims = [*place[1:], None, None, None][:3]
    return injector.declare_neuron_fi(
        batch=[0], layer_num=[layer], dim1=[dims[0]], dim2=[dims[1]], dim3=[dims[2]], function=strike
    )


def _weight(injector: Any, layer: int, bit: int, draw: random.Random) -> Any:
    # Trailing Nones index a weight of two axes as one of four, which is all that PyTorchFI knows.
    shape = [*injector.weights_size[layer], None, None][:4]
    place = [None if n is None else draw.randrange(n) for n in shape]

    def strike(weight: Any, where: Any) -> float:
        return _flipped(float(weight[where]), bit)

    return injector.declare_weight_fi(
        layer_num=[layer], k=[place[0]], dim1=[place[1]], dim2=[place[2]], dim3=[place[3]], function=strike
    )


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 500)))
