"""What an operator knows of a job from its clean runs: the band of the loss, norms, cycles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any, Self

from yieldkit.emulator.symptoms import COMPLETED, Symptoms
from yieldkit.errors import BadInput

__all__ = ["Baseline"]


@dataclass(frozen=True)
class Baseline:
    """Clean runs of one job, reduced to what monitoring keeps.

    Attributes:
        program: fingerprint of the program, "" when it is not known.
        loss: centre of the band, one value per step.
        half_width: half the width of the band, one positive value per step.
        grad_norm: mean gradient norm per step.
        cycles: cycles of a clean run, 0 when not known.
        logit_nonfinite: non-finite logits of the clean runs (decode).
        tokens: tokens of a clean run; used by the optional golden-compare channel only.
        runs: number of clean runs behind it.
    """

    program: str = ""
    loss: tuple[float, ...] = ()
    half_width: tuple[float, ...] = ()
    grad_norm: tuple[float, ...] = ()
    cycles: int = 0
    logit_nonfinite: int = 0
    tokens: tuple[int, ...] = ()
    runs: int = 1

    def __post_init__(self) -> None:
        if len(self.loss) != len(self.half_width):
            raise BadInput(
                "baseline needs one half_width per loss",
                value=(len(self.loss), len(self.half_width)),
                cure="build it with Baseline.from_runs",
            )
        if not all(math.isfinite(width) and width > 0 for width in self.half_width):
            raise BadInput("baseline half_width must be finite and positive", value=self.half_width[:8])
        if self.runs < 1:
            raise BadInput("baseline runs must be at least 1", value=self.runs)

    @classmethod
    def from_runs(cls, runs: Sequence[Symptoms], *, spread: float = 3.0, floor: float = 0.02, pool: int = 5) -> Self:
        """Reduce clean runs of the same job (they may differ in seed) to a band.

        half_width[t] = max(spread x standard deviation of the losses of steps t-pool..t+pool about their step means
        over the runs, floor x |mean loss at t|). With one run only the floor is left: the machine repeats itself in
        every bit, so the floor is then how much departure is called harmless.

        Args:
            runs: completed clean runs.
            spread: standard deviations in half the band.
            floor: smallest half width, as a fraction of the mean loss of the step.
            pool: steps on either side over which the spread is pooled.

        Raises:
            BadInput: no run, a run that did not complete, or runs of unlike length.
        """
        if not runs:
            raise BadInput("a baseline needs at least one clean run", value=len(runs))
        for index, run in enumerate(runs):
            if run.status != COMPLETED:
                raise BadInput(f"clean run {index} did not complete", value=run.status)
            if len(run.loss) != len(runs[0].loss) or len(run.grad_norm) != len(runs[0].grad_norm):
                raise BadInput(
                    "clean runs of one job have the same number of steps", value=[len(run.loss) for run in runs]
                )
        steps = len(runs[0].loss)
        mean = [fmean(run.loss[step] for run in runs) for step in range(steps)]
        width: list[float] = []
        for step in range(steps):
            pooled = [
                run.loss[near] - mean[near]
                for near in range(max(0, step - pool), min(steps, step + pool + 1))
                for run in runs
            ]
            freedom = len(pooled) - len(pooled) // len(runs)
            sigma = math.sqrt(sum(x * x for x in pooled) / freedom) if freedom > 0 else 0.0
            smallest = floor * abs(mean[step])
            width.append(max(spread * sigma if math.isfinite(sigma) else 0.0, smallest if smallest > 0 else floor))
        finite = [value if math.isfinite(value) and value > 0 else floor for value in width]
        norms = tuple(fmean(run.grad_norm[step] for run in runs) for step in range(len(runs[0].grad_norm)))
        programs = {run.program for run in runs}
        return cls(
            program=programs.pop() if len(programs) == 1 else "",
            loss=tuple(mean),
            half_width=tuple(finite),
            grad_norm=norms,
            cycles=round(fmean(run.cycles for run in runs)),
            logit_nonfinite=max(run.logit_nonfinite for run in runs),
            tokens=runs[0].tokens if len({run.tokens for run in runs}) == 1 else (),
            runs=len(runs),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; non-finite numbers become "nan", "inf" and "-inf"."""
        return {
            name: [_text(item) for item in value] if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` wrote.

        Raises:
            BadInput: a field is unknown or cannot be read.
        """
        unknown = sorted(set(data) - {field.name for field in fields(cls)})
        if unknown:
            raise BadInput("baseline has unknown fields", value=unknown)
        try:
            values: dict[str, Any] = dict(data)
            for name in ("loss", "half_width", "grad_norm"):
                if name in values:
                    values[name] = tuple(float(item) for item in values[name])
            if "tokens" in values:
                values["tokens"] = tuple(int(item) for item in values["tokens"])
            for name in ("cycles", "logit_nonfinite", "runs"):
                if name in values:
                    values[name] = int(values[name])
            if "program" in values:
                values["program"] = str(values["program"])
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise BadInput(f"baseline cannot be read: {error}") from error


def _text(value: float) -> float | str:
    if not math.isfinite(value):
        return "nan" if value != value else ("inf" if value > 0 else "-inf")
    return value
