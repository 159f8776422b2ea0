"""Faults drawn at random for one launch: every kind of hook, at places that hold something and places that do not."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from yieldkit.emulator.hooks import (
    ALL_BITS,
    IndexHook,
    LaunchHooks,
    LinkHook,
    OperandHook,
    ProductHook,
    RegisterHook,
    ResultHook,
    RouteHook,
    SlowHook,
    SramHook,
)

__all__ = ["CORE_HOOKS", "HOOKS", "random_hooks", "with_model"]

HOOKS = ("table", "data", "route", "register", "result", "drop", "flip")
CORE_HOOKS = ("table", "data", "route", "register", "result", "operand", "product", "index", "slow")
STEP = ((-1, 0), (0, 1), (1, 0), (0, -1))


class _Place:
    """A core, its role, and draws of what may be struck there."""

    def __init__(self, rng, lowered, low):
        self.rng, self.low, self.words = rng, low, lowered.sram_words
        self.rows, self.cols = low.role_of.shape
        self.r, self.c = int(rng.integers(self.rows)), int(rng.integers(self.cols))
        self.role = low.roles[low.role_of[self.r, self.c]]

    def phase(self):
        return int(self.rng.integers(len(self.low.launch.phases)))

    def bit(self, bits=32):
        return 1 << int(self.rng.integers(bits))

    def task(self):
        return int(self.rng.integers(max(1, self.role.n_tasks)))

    def table(self):
        place = int(self.rng.integers(-2, len(self.role.tables)))
        address = self.low.table_base + place if place >= 0 else place + 2
        return LaunchHooks(sram=(SramHook(self.r, self.c, self.phase(), address, self.bit()),))

    def data(self):
        address = int(self.rng.integers(2, self.words))
        if self.rng.random() < 0.8:
            address = min(self.words - 1, int(self.rng.choice(sorted(self.low.address.values()) or [2])))
        return LaunchHooks(sram=(SramHook(self.r, self.c, self.phase(), address, self.bit()),))

    def route(self):
        live = np.argwhere(self.role.routes != 0)
        colour, position = int(self.rng.integers(24)), int(self.rng.integers(4))
        if len(live) and self.rng.random() < 0.9:
            colour, position = (int(v) for v in self.rng.choice(live))
        return LaunchHooks(routes=(RouteHook(self.r, self.c, 0, colour, position, self.bit(9)),))

    def register(self):
        operand = int(self.rng.integers(-1, 3))
        word = int(self.rng.integers(2 if operand < 0 else 4))
        element = int(self.rng.choice([0, 0, 1, 2, 3, 7]))
        return LaunchHooks(registers=(RegisterHook(self.r, self.c, self.task(), element, operand, word, self.bit()),))

    def result(self):
        element = int(self.rng.choice([0, 1, 2, 5]))
        return LaunchHooks(results=(ResultHook(self.r, self.c, self.task(), element, self.bit()),))

    def at(self):
        return self.r, self.c, self.task(), int(self.rng.choice([0, 0, 1, 2, 3, 7]))

    def operand(self):
        return LaunchHooks(operands=(OperandHook(*self.at(), int(self.rng.integers(1, 3)), self.bit()),))

    def product(self):
        return LaunchHooks(products=(ProductHook(*self.at(), self.bit()),))

    def index(self):
        where = int(self.rng.integers(3)), int(self.rng.integers(3))
        return LaunchHooks(indices=(IndexHook(*self.at(), *where, self.bit(3)),))

    def slow(self):
        return LaunchHooks(slow=(SlowHook(self.r, self.c, float(self.rng.choice([1.3, 4.0]))),))

    def link(self, drop):
        inside = [p for p, (dr, dc) in enumerate(STEP) if 0 <= self.r + dr < self.rows and 0 <= self.c + dc < self.cols]
        sends = [
            (colour, port)
            for colour in range(24)
            for port in inside
            if (self.role.routes[colour] >> np.uint32(3 + port) & 1).any()
        ]
        if not sends:
            return LaunchHooks()
        colour, port = (int(v) for v in self.rng.choice(sends))
        nth = int(self.rng.choice([0, 1, 2, 3, 5, 9]))
        return LaunchHooks(links=(LinkHook(self.r, self.c, port, colour, nth, drop, 0 if drop else self.bit()),))

    def drop(self):
        return self.link(True)

    def flip(self):
        return self.link(False)


def random_hooks(rng, lowered, low, count=1, kinds=HOOKS):
    """`count` faults of `kinds` at random places of a lowered launch."""
    hooks = LaunchHooks()
    for _ in range(count):
        hooks += getattr(_Place(rng, lowered, low), str(rng.choice(kinds)))()
    return hooks


def with_model(rng, hooks):
    """The same places with any model of fault, once or to the end of the launch."""

    def other(hook):
        names = {field.name for field in fields(hook)}
        if "keep" not in names:
            return hook
        model = str(rng.choice(["flip", "bits", "stuck at 0", "stuck at 1", "value", "zero"]))
        mask = hook.mask
        if model == "bits":
            mask = 3 << int(rng.integers(14)) if rng.random() < 0.5 else int(rng.integers(1, 1 << 16))
        changes = {
            "flip": {},
            "bits": {"mask": mask},
            "stuck at 0": {"mask": 0, "keep": ALL_BITS ^ mask},
            "stuck at 1": {"keep": ALL_BITS ^ mask},
            "value": {"mask": int(rng.integers(1 << 16)), "keep": 0},
            "zero": {"mask": 0, "keep": 0},
        }[model]
        if "lasts" in names and rng.random() < 0.5:
            changes["lasts"] = True
        return replace(hook, **changes)

    return LaunchHooks(*(tuple(other(hook) for hook in getattr(hooks, kind.name)) for kind in fields(hooks)))
