"""From the wafer section of a campaign to a booted fabric: defects, fault map, repair, image, boot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from yieldkit.burnin.spec import WaferSection
from yieldkit.errors import AnswerIsNo, BadInput

if TYPE_CHECKING:
    from yieldkit.defects import Defects
    from yieldkit.fabric import Fabric, FirmwareImage
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair import RepairPlan, RowShift
    from yieldkit.wafer import WaferSpec

__all__ = ["WaferChain", "build_chain"]

_PLACES: dict[str | None, Literal["keep", "scale"]] = {None: "keep", "as_is": "keep", "scaled": "scale"}


@dataclass(frozen=True)
class WaferChain:
    """One wafer on its way to a booted fabric; `image` and `fabric` are None when it cannot be repaired.

    Attributes:
        wafer: the spec.
        defects: sampled or from a file; None for a perfect wafer.
        faults: what the defects did.
        rules: repair architecture.
        plan: its plan, or why there is none.
        violations: what the solver-free checker found wrong with the plan (nothing, or the chain stops).
        image: firmware.
        fabric: booted from it.
    """

    wafer: WaferSpec
    defects: Defects | None
    faults: FaultMap
    rules: RowShift
    plan: RepairPlan
    violations: tuple[str, ...]
    image: FirmwareImage | None
    fabric: Fabric | None

    def booted(self) -> Fabric:
        """The fabric.

        Raises:
            AnswerIsNo: the wafer cannot be repaired.
        """
        if self.fabric is None:
            raise AnswerIsNo(
                f"wafer {self.faults.wafer_id or self.wafer.name} has no full fabric: {self.plan.summary()}"
            )
        return self.fabric


def build_chain(section: WaferSection, *, seed: int) -> WaferChain:
    """Carry a wafer through the chain.

    Args:
        section: what wafer, with which defects and repair rules.
        seed: of the defects, where the section has none of its own.

    Raises:
        BadInput: preset, spec or file cannot be used.
    """
    from yieldkit.fabric import Fabric, FirmwareImage
    from yieldkit.faultmap import FaultMap
    from yieldkit.repair import RowShift, check_plan, plan_repair
    from yieldkit.wafer import WaferSpec

    if section.spec is not None:
        wafer = WaferSpec.from_toml(section.spec)
    elif section.preset is not None:
        wafer = WaferSpec.preset(section.preset)
    else:
        raise BadInput("wafer needs a preset or a spec", cure='e.g. preset = "mini"')
    defects, own_seed = _defects(section, wafer, seed)
    if defects is None:
        faults = FaultMap.for_wafer(wafer, wafer_id=section.id)
    else:
        faults = FaultMap.from_defects(wafer, defects, rng=own_seed, wafer_id=section.id)
    rules = RowShift.for_wafer(wafer, spares=section.repair.spares)
    changes: dict[str, Any] = {
        name: value
        for name, value in (
            ("skip_reach", section.repair.skip_reach),
            ("vertical_reach", section.repair.vertical_reach),
        )
        if value is not None
    }
    if changes:
        rules = replace(rules, **changes)
    plan = plan_repair(faults, rules, wafer=wafer)
    if not plan.repaired:
        return WaferChain(wafer, defects, faults, rules, plan, (), None, None)
    violations = tuple(str(v) for v in check_plan(faults, rules, plan))
    if violations:
        raise RuntimeError(f"the plan does not hold: {violations[:3]}")
    image = FirmwareImage.from_plan(plan, wafer=wafer, wafer_id=section.id)
    return WaferChain(wafer, defects, faults, rules, plan, violations, image, Fabric.boot(image, wafer))


def _defects(section: WaferSection, wafer: WaferSpec, seed: int) -> tuple[Defects | None, int]:
    from yieldkit.defects import Defects, NegativeBinomial, Poisson

    law = section.defects
    if law is None:
        return None, seed
    own = law.seed if law.seed is not None else seed
    if law.klarf is not None:
        from yieldkit.wafermap import read_wafer_map

        chosen = read_wafer_map(law.klarf, wafer_id=law.wafer_id)
        return Defects.from_wafer_map(chosen, wafer, place=_PLACES[law.place]), own
    density = law.d0_per_cm2 if law.d0_per_cm2 is not None else wafer.process.d0_per_cm2
    if law.law == "negative_binomial":
        if law.alpha is None:
            raise BadInput("wafer.defects.alpha is needed for negative_binomial", cure="e.g. alpha = 2.0")
        return NegativeBinomial(d0_per_cm2=density, alpha=law.alpha).sample(wafer, rng=own), own
    return Poisson(d0_per_cm2=density).sample(wafer, rng=own), own
