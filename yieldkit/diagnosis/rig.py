"""What diagnosis may ask of a machine: run a program again, at the same place or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from yieldkit.emulator.symptoms import Symptoms

__all__ = ["Placement", "Rig", "Wiring"]


@dataclass(frozen=True)
class Placement:
    """Where a replay runs.

    Attributes:
        kind: "same" cores as the run under question; "disjoint": none of its cores; "shifted": the next cores over, so
            that what stays on a physical core can be told from what follows the data.
        index: number of the replay, so that replays can be told apart and repeated.
    """

    kind: Literal["same", "disjoint", "shifted"]
    index: int = 0


class Rig(Protocol):
    """A machine that can be asked to repeat a run; all it gives back is what it shows from outside."""

    def run(self, program: Any, placement: Placement) -> Symptoms:
        """Run `program` from the same checkpoint at `placement`."""
        ...


class Wiring(Protocol):
    """The routes of the loaded image, which an operator has: who feeds a core on a colour, and whom it feeds."""

    def sources(self, row: int, col: int, colour: int) -> tuple[tuple[int, int], ...]:
        """Cores whose words of `colour` core (row, col) consumes."""
        ...

    def sinks(self, row: int, col: int, colour: int) -> tuple[tuple[int, int], ...]:
        """Cores that consume the words which core (row, col) sends on `colour`."""
        ...
