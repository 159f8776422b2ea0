"""Faults of links, router queues and switches drawn at random for one launch."""

from __future__ import annotations

import numpy as np

from yieldkit.emulator.hooks import LaunchHooks, LinkHook, QueueHook, SwitchHook

__all__ = ["LINK_HOOKS", "random_link_hooks"]

LINK_HOOKS = ("flip", "stuck", "drop", "dead", "duplicate", "doubling", "credit", "leak", "delay", "queue", "switch")
STEP = ((-1, 0), (0, 1), (1, 0), (0, -1))
NTH = (0, 0, 1, 2, 3, 5, 9)


def _link(rng, low):
    """A (r, c, port, colour) that some word may go over, inside the rectangle most of the time; or None."""
    rows, cols = low.role_of.shape
    found = []
    for r in range(rows):
        for c in range(cols):
            routes = low.roles[low.role_of[r, c]].routes
            for port, (down, right) in enumerate(STEP):
                inside = 0 <= r + down < rows and 0 <= c + right < cols
                for colour in np.flatnonzero((routes >> np.uint32(3 + port) & 1).any(axis=1)).tolist():
                    found += [(r, c, port, colour)] * (4 if inside else 1)
    return found[int(rng.integers(len(found)))] if found else None


def _queue(rng, low):
    """A (r, c, port, colour) of a queue that some word may enter, MemoryX's at the edges included."""
    found = []
    for (r, c), number in np.ndenumerate(low.role_of):
        routes = low.roles[number].routes
        for colour in np.flatnonzero(routes.any(axis=1)).tolist():
            ports = {int(word & 7) - 1 for word in routes[colour] if 1 <= word & 7 <= 5}
            if (routes[colour] >> np.uint32(7) & 1).any():
                ports.add(5)
            found += [(r, c, port, colour) for port in sorted(ports)]
    return found[int(rng.integers(len(found)))] if found else None


def _value(rng):
    """(mask, keep): a flip of one bit or several, a stuck bit, or another word."""
    bit = 1 << int(rng.integers(32))
    kind = int(rng.integers(5))
    if kind < 2:
        return bit | (1 << int(rng.integers(32)) if kind else 0), 0xFFFFFFFF
    if kind == 2:
        return bit, 0xFFFFFFFF ^ bit
    if kind == 3:
        return 0, 0xFFFFFFFF ^ bit
    return int(rng.integers(1 << 32)), 0


def _one(rng, low, kind):
    if kind == "switch":
        place = _queue(rng, low)
        if place is None:
            return LaunchHooks()
        r, c, _, colour = place
        return LaunchHooks(switches=(SwitchHook(r, c, colour, int(rng.integers(1, 4))),))
    place = _queue(rng, low) if kind == "queue" else _link(rng, low)
    if place is None:
        return LaunchHooks()
    nth = int(rng.choice(NTH))
    if kind == "queue":
        mask, keep = _value(rng)
        return LaunchHooks(queues=(QueueHook(*place, nth, mask, keep, bool(rng.integers(2))),))
    if kind in ("flip", "stuck"):
        mask, keep = _value(rng)
        return LaunchHooks(links=(LinkHook(*place, nth, False, mask, keep, kind == "stuck"),))
    if kind in ("drop", "dead"):
        return LaunchHooks(links=(LinkHook(*place, nth, True, 0, lasts=kind == "dead"),))
    if kind in ("duplicate", "doubling"):
        return LaunchHooks(links=(LinkHook(*place, nth, False, 0, lasts=kind == "doubling", duplicate=True),))
    if kind in ("credit", "leak"):
        return LaunchHooks(links=(LinkHook(*place, nth, False, 0, lasts=kind == "leak", credit=True),))
    cycles = int(rng.choice([1, 3, 40]))
    return LaunchHooks(links=(LinkHook(*place, nth, False, 0, lasts=bool(rng.integers(2)), delay=cycles),))


def random_link_hooks(rng, low, count=1, kinds=LINK_HOOKS):
    """`count` faults of `kinds` at random places of a lowered launch."""
    hooks = LaunchHooks()
    for _ in range(count):
        hooks += _one(rng, low, str(rng.choice(kinds)))
    return hooks
