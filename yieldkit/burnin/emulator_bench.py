"""The bench behind a campaign: a wafer through the chain, a real job on its fabric, one fault a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from yieldkit.burnin.chain import WaferChain, build_chain
from yieldkit.burnin.exits import STEADY, Steady
from yieldkit.burnin.golden import Golden, Trial, carry_out, long_way, run_golden
from yieldkit.burnin.programs import check_parameters, initial_weights, make_program, program_parameters
from yieldkit.burnin.referee import label_of
from yieldkit.burnin.spec import FAULT_KINDS, PROGRAM_KINDS, CampaignSpec
from yieldkit.burnin.strata import Strata
from yieldkit.burnin.trial import FaultClass, TrialRecord
from yieldkit.emulator.lowering import Lowered, lower
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import check_protection
from yieldkit.errors import BadInput
from yieldkit.faults import FaultEvent, FaultPlan, FaultSampler
from yieldkit.faults.host_places import HOST_PLACES
from yieldkit.faults.models import apply_model
from yieldkit.files import canonical_json, fingerprint
from yieldkit.rng import generator

__all__ = ["EmulatorBench", "check_spec", "count_classes", "open_bench"]


def check_spec(tables: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name every field of the program, wafer and faults sections that this bench cannot use."""
    problems: list[tuple[str, str]] = []
    program = tables.get("program")
    kind = program.get("kind") if isinstance(program, Mapping) else None
    if isinstance(program, Mapping):
        if kind not in PROGRAM_KINDS:
            problems.append(("program.kind", f"must be one of {', '.join(PROGRAM_KINDS)}, got {kind!r}"))
        else:
            problems += check_parameters(str(kind), {k: v for k, v in program.items() if k != "kind"})
    faults = tables.get("faults")
    kinds = faults.get("kinds") if isinstance(faults, Mapping) else None
    if isinstance(kinds, Mapping):
        for name in kinds:
            if name not in FAULT_KINDS:
                problems.append((f"faults.kinds.{name}", f"unknown kind of fault; known: {', '.join(FAULT_KINDS)}"))
        weights = [w for w in kinds.values() if isinstance(w, int | float) and not isinstance(w, bool)]
        if weights and not sum(weights) > 0:
            problems.append(("faults.kinds", "at least one weight must be positive"))
    options = faults.get("options") if isinstance(faults, Mapping) else None
    if isinstance(options, Mapping):
        problems += [(f"faults.options.{name}", "this bench has no options") for name in options]
    wafer = tables.get("wafer")
    if isinstance(wafer, Mapping):
        problems += _check_wafer(wafer, program if isinstance(program, Mapping) and not problems else None)
    return problems


def _check_wafer(section: Mapping[str, Any], program: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Read the files that the wafer section names, and see whether the program fits the wafer's fabric and cores."""
    from yieldkit.wafer import WaferSpec

    problems: list[tuple[str, str]] = []
    law = section.get("defects")
    klarf = law.get("klarf") if isinstance(law, Mapping) else None
    wafer_id = law.get("wafer_id") if isinstance(law, Mapping) else None
    if isinstance(klarf, str) and klarf and (wafer_id is None or isinstance(wafer_id, str)):
        from yieldkit.wafermap import read_wafer_map

        try:
            read_wafer_map(klarf, wafer_id=wafer_id)
        except BadInput as error:
            problems.append(("wafer.defects.klarf", str(error)))
    spec, preset = section.get("spec"), section.get("preset")
    name, source = ("spec", spec) if spec is not None else ("preset", preset)
    if not isinstance(source, str) or not source or (spec is not None and preset is not None):
        return problems
    try:
        wafer = WaferSpec.from_toml(source) if name == "spec" else WaferSpec.preset(source)
        check_protection(wafer)
    except BadInput as error:
        return [*problems, (f"wafer.{name}", str(error))]
    if program is not None:
        kind = str(program.get("kind"))
        try:
            made = make_program(kind, program_parameters(kind, {k: v for k, v in program.items() if k != "kind"}))
            height, width = wafer.logical_shape
            if made.rows > height or made.cols > width:
                raise BadInput(f"{made.rows} x {made.cols} cores do not fit the fabric of {height} x {width}")
            lower(made, sram_words=wafer.machine.sram_words)
        except BadInput as error:
            problems.append(("program", str(error)))
    return problems


@dataclass(frozen=True)
class EmulatorBench:
    """Golden state of a campaign.

    Attributes:
        spec: the campaign.
        chain: the wafer.
        golden: the clean run.
        sampler: draws faults.
        queue_depth: of the wafer's machine.
        task_fingerprint: over program, image and golden hashes.
    """

    spec: CampaignSpec
    chain: WaferChain
    golden: Golden
    sampler: FaultSampler
    queue_depth: int
    task_fingerprint: str

    @property
    def clean_observations(self) -> tuple[dict[str, Any], ...]:
        """Symptoms of clean runs of the job."""
        return self.golden.clean

    @cached_property
    def classes(self) -> tuple[FaultClass, ...]:
        """Classes of faults of the spec's kinds, with their populations."""
        return classes_of(self.spec, self.sampler)

    @cached_property
    def strata(self) -> Strata:
        """Strata of the campaign; one that holds everything where the spec has none."""
        return Strata.of(self.spec, self.classes)

    def trial(self, k: int) -> TrialRecord:
        """Carry out trial `k` of a campaign without strata: draw a class of faults, and a fault in it."""
        draw = self.strata.draw("", k)
        return replace(self.trial_of(k, draw.fault), weight=draw.weight)

    def trial_of(self, k: int, fault: FaultClass) -> TrialRecord:
        """Carry out trial `k` with a fault of a class: draw it, run, and let the referee name the outcome."""
        rng = generator(self.spec.campaign.seed, "burnin.trial", k)
        event = self.sampler.draw_in(fault.site, fault.bit, fault.phase, rng)
        event, model = self._model(event, rng)
        plan = FaultPlan([event], self.golden.placement)
        core = plan.logical(event)
        trials = self.spec.trials
        steady = Steady() if trials is not None and trials.exit == "statistical" else None
        trial = carry_out(self.golden, event, queue_depth=self.queue_depth, steady=steady)
        result = trial.result
        label = label_of(self.golden, result, event, core, self.golden.lowered)
        truth: dict[str, Any] = {"kind": self.strata.kind_of(fault), **event.to_dict()}
        truth["logical"] = None if core is None else list(core)
        truth["bypassed"] = core is None and event.place not in HOST_PLACES
        metrics = self._metrics(result, event) | {"exit": trial.exit, "steps_run": trial.steps_run}
        if trials is not None and trials.long_way:
            pick = generator(self.spec.campaign.seed, "burnin.long_way", k)
            if float(pick.random()) < trials.long_way:
                self._compare(k, event, core, trial, label)
        site, bit, phase = fault[:3]
        return TrialRecord(
            k, truth, label, result.symptoms.to_dict(), metrics, site=site, bit=bit, phase=phase, model=model
        )

    def _compare(self, k: int, event: FaultEvent, core: Any, trial: Trial, label: str) -> None:
        """Run a trial the long way too.

        Raises:
            RuntimeError: it gives something else; that is an error in yieldkit.
        """
        whole = long_way(self.golden, event, queue_depth=self.queue_depth)
        mine, other = trial.result.symptoms.to_dict(), whole.symptoms.to_dict()
        if trial.exit == STEADY:
            # Only what was run can be compared; the label is what the rule says, not what the run gave.
            done = trial.result.symptoms.steps_done
            other = {n: v[:done] if n in ("loss", "grad_norm", "update_norm") else v for n, v in other.items()}
            mine, other = ({n: d[n] for n in ("loss", "grad_norm", "update_norm", "events")} for d in (mine, other))
            named = label
        else:
            named = label_of(self.golden, whole, event, core, self.golden.lowered)
        if canonical_json(mine) != canonical_json(other) or named != label:
            fields = [name for name in mine if canonical_json(mine[name]) != canonical_json(other[name])]
            raise RuntimeError(
                f"trial {k} gives {label} and the long way {named} ({', '.join(fields) or 'the label'}); this is "
                f"an error in yieldkit: run 'yieldkit burnin replay FOLDER --trial {k}' to see it again"
            )

    def _model(self, event: FaultEvent, rng: np.random.Generator) -> tuple[FaultEvent, str]:
        """What is done to the struck bit, drawn by weight."""
        models = {name: weight for name, weight in self.spec.faults.models.items() if weight > 0}
        if not models or not event.mask:
            return event, "bit" if event.mask else ""
        weights = np.array(list(models.values()), np.float64)
        model = list(models)[int(rng.choice(len(weights), p=weights / weights.sum()))]
        return apply_model(event, model, rng)

    def _metrics(self, result: Any, event: Any) -> dict[str, float]:
        golden, trial = self.golden.result.symptoms, result.symptoms
        metrics: dict[str, float] = {"steps_done": trial.steps_done, "fault_step": event.step}
        if trial.loss and golden.loss:
            n = min(len(trial.loss), len(golden.loss))
            metrics["final_loss"] = trial.loss[-1]
            metrics["final_loss_delta"] = trial.loss[n - 1] - golden.loss[n - 1]
            away = [abs(a - b) for a, b in zip(trial.loss, golden.loss, strict=False)]
            metrics["worst_loss_delta"] = float("nan") if any(d != d for d in away) else max(away)
        if golden.tokens:
            metrics["tokens_changed"] = sum(a != b for a, b in zip(trial.tokens, golden.tokens, strict=False))
        return metrics


def open_bench(spec: CampaignSpec) -> EmulatorBench:
    """Build the bench: the wafer, its fabric, the program and its clean run.

    Raises:
        AnswerIsNo: the wafer cannot be repaired.
        BadInput: the program does not fit the fabric, or the wafer has a protection that is not emulated.
    """
    chain = build_chain(spec.wafer, seed=spec.campaign.seed)
    fabric = chain.booted()
    check_protection(chain.wafer)
    kind = spec.program.kind
    p = program_parameters(kind, spec.program.parameters)
    program = make_program(kind, p)
    lowered: Lowered = lower(program, sram_words=chain.wafer.machine.sram_words)
    placement = Placement.of(program, fabric)
    depth = int(chain.wafer.machine.queue_depth)
    weights = initial_weights(kind, p, fabric)
    golden = run_golden(
        lowered, placement, int(p["steps"]), queue_depth=depth, weights=weights, runs=int(p.get("clean_runs", 1))
    )
    sampler = _sampler(spec, chain, lowered, placement, int(p["steps"]))
    digest = fingerprint(
        {
            "program": program.fingerprint,
            "image": fabric.image_fingerprint,
            "golden": golden.result.state_hash,
            "queue_depth": depth,
        }
    )
    return EmulatorBench(spec, chain, golden, sampler, depth, digest)


def count_classes(spec: CampaignSpec) -> tuple[FaultClass, ...]:
    """Classes of faults of a campaign with their populations, without running anything but its traffic.

    Raises:
        AnswerIsNo, BadInput: as `open_bench`.
    """
    chain = build_chain(spec.wafer, seed=spec.campaign.seed)
    fabric = chain.booted()
    p = program_parameters(spec.program.kind, spec.program.parameters)
    program = make_program(spec.program.kind, p)
    lowered = lower(program, sram_words=chain.wafer.machine.sram_words)
    return classes_of(spec, _sampler(spec, chain, lowered, Placement.of(program, fabric), int(p["steps"])))


def classes_of(spec: CampaignSpec, sampler: FaultSampler) -> tuple[FaultClass, ...]:
    """Classes of faults of the kinds that a spec gives a weight to."""
    kinds = [kind for kind, weight in spec.faults.kinds.items() if weight > 0]
    found = dict.fromkeys(one for kind in kinds for one in sampler.of_kind(kind))
    return tuple(FaultClass(*one, units=sampler.units(one)) for one in found)


def _sampler(
    spec: CampaignSpec, chain: WaferChain, lowered: Lowered, placement: Placement, steps: int
) -> FaultSampler:  # fmt: skip
    sites = None
    if spec.faults.sites == "all":
        sites = tuple((int(r), int(c)) for r, c in np.argwhere(chain.wafer.present_mask()))
    return FaultSampler(lowered, placement, steps, sites)
