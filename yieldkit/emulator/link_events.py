"""What checks of links count, from the numbers of words alone: the count interpreter's share of a scan's events."""

from __future__ import annotations

from collections.abc import Sequence

from yieldkit.emulator.hooks import ALL_BITS, LaunchHooks, LinkHook
from yieldkit.emulator.links import LinkGuard

__all__ = ["by_link", "events_follow", "events_of"]


def by_link(hooks: LaunchHooks) -> dict[tuple[int, int, int, int], list[LinkHook]]:
    """Hooks by the (r, c, port, colour) they strike."""
    found: dict[tuple[int, int, int, int], list[LinkHook]] = {}
    for hook in hooks.links:
        found.setdefault((hook.r, hook.c, hook.port, hook.colour), []).append(hook)
    return found


def _changes(hook: LinkHook) -> bool:
    return not (hook.drop or hook.duplicate or hook.credit or hook.delay)


def events_follow(hooks: LaunchHooks, guard: LinkGuard) -> bool:
    """Whether what links count follows without values: no bit is stuck, and nothing else happens to a changed word."""
    if guard.kind not in ("parity", "crc"):
        return True
    for struck in by_link(hooks).values():
        changed = [hook for hook in struck if _changes(hook)]
        if changed and (len(changed) > 1 or changed[0].keep != ALL_BITS):
            return False
        if changed and any(hook.drop or hook.duplicate for hook in struck):
            return False
    return True


def events_of(struck: Sequence[LinkHook], guard: LinkGuard, sent: int, received: int) -> dict[str, int]:
    """Events that the router behind a link has counted after `sent` words were sent on a colour."""
    if guard.kind == "sequence":
        return {"sequence": _out_of_order(struck, sent, received)}
    found: dict[str, int] = {}
    for hook in struck:
        if not _changes(hook) or not hook.mask or hook.nth >= sent:
            continue
        words = sent - hook.nth if hook.lasts else 1
        if guard.kind == "parity" and hook.mask.bit_count() % 2:
            found["parity"] = found.get("parity", 0) + words
        if guard.kind == "crc":
            found["crc_failed" if hook.lasts else "crc"] = words
    return found


def _out_of_order(struck: Sequence[LinkHook], sent: int, received: int) -> int:
    """How often a word has come whose number was not the next."""

    def met(hook: LinkHook, number: int) -> bool:
        return number == hook.nth or (hook.lasts and number > hook.nth)

    first = min((hook.nth for hook in struck if hook.drop or hook.duplicate), default=sent)
    events, due, arrived = 0, first, min(first, received)
    # A copy of the word that is to go next may have gone before it.
    for number in range(first, sent + 1):
        if any(hook.drop and met(hook, number) for hook in struck):
            continue
        copies = sum(hook.duplicate and met(hook, number) for hook in struck) + (number < sent)
        for _ in range(min(copies, received - arrived)):
            events += number != due
            due = number + 1
            arrived += 1
    return events
