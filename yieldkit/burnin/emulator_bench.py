"""The bench behind a campaign: a wafer through the chain, a real job on its fabric, one fault a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from yieldkit.burnin.chain import WaferChain, build_chain
from yieldkit.burnin.golden import Golden, run_golden, run_trial
from yieldkit.burnin.referee import label_of
from yieldkit.burnin.spec import FAULT_KINDS, PROGRAM_KINDS, CampaignSpec
from yieldkit.burnin.trial import TrialRecord
from yieldkit.emulator.lowering import Lowered, lower
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import run
from yieldkit.errors import BadInput
from yieldkit.faults import FaultPlan, FaultSampler
from yieldkit.files import fingerprint
from yieldkit.rng import generator
from yieldkit.workloads.corpus import load_corpus
from yieldkit.workloads.decode import gpt_decode
from yieldkit.workloads.gpt import GptShape, gpt_training
from yieldkit.workloads.program import Program

if TYPE_CHECKING:
    from yieldkit.wafer import WaferSpec

__all__ = ["EmulatorBench", "check_spec", "open_bench"]

DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "gpt_training": {
        "rows": 4, "cols": 4, "layers": 1, "width": 32, "heads": 4, "context": 16, "sequences": 4,
        "vocabulary": 256, "steps": 48, "dtype": "bf16", "learning_rate": 3e-3, "seed": 0, "clean_runs": 3,
    },
    "gpt_decode": {
        "side": 4, "layers": 1, "width": 32, "heads": 4, "context": 16, "sequences": 4, "vocabulary": 256,
        "steps": 16, "dtype": "bf16", "learning_rate": 3e-3, "seed": 0, "trained_steps": 60, "prompt": 4,
    },
}  # fmt: skip


def program_parameters(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a program kind with the defaults filled in."""
    return {**DEFAULTS[kind], **given}


def check_spec(tables: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name every field of the program, wafer and faults sections that this bench cannot use."""
    problems: list[tuple[str, str]] = []
    program = tables.get("program")
    kind = program.get("kind") if isinstance(program, Mapping) else None
    if isinstance(program, Mapping):
        if kind not in PROGRAM_KINDS:
            problems.append(("program.kind", f"must be one of {', '.join(PROGRAM_KINDS)}, got {kind!r}"))
        else:
            problems += _check_program(str(kind), {k: v for k, v in program.items() if k != "kind"})
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
            made = _program(kind, program_parameters(kind, {k: v for k, v in program.items() if k != "kind"}))
            height, width = wafer.logical_shape
            if made.rows > height or made.cols > width:
                raise BadInput(f"{made.rows} x {made.cols} cores do not fit the fabric of {height} x {width}")
            lower(made, sram_words=wafer.machine.sram_words)
        except BadInput as error:
            problems.append(("program", str(error)))
    return problems


def _check_program(kind: str, given: Mapping[str, Any]) -> list[tuple[str, str]]:
    import difflib

    problems = []
    known = DEFAULTS[kind]
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"
            problems.append((f"program.{name}", f"{kind} has no such parameter{hint}"))
        elif isinstance(known[name], float):
            if isinstance(value, bool) or not isinstance(value, int | float):
                problems.append((f"program.{name}", f"must be a number, got {value!r}"))
        elif isinstance(value, bool) or not isinstance(value, type(known[name])):
            problems.append((f"program.{name}", f"must be {type(known[name]).__name__}, got {value!r}"))
        elif isinstance(value, int) and value < (0 if name in ("seed", "trained_steps") else 1):
            problems.append((f"program.{name}", f"must be positive, got {value!r}"))
    if not problems:
        try:
            _program(kind, program_parameters(kind, given))
        except BadInput as error:
            problems.append(("program", str(error)))
    return problems


def _program(kind: str, p: Mapping[str, Any]) -> Program:
    shape = GptShape(**{name: int(p[name]) for name in asdict(GptShape())})
    if shape.vocabulary < 256:
        raise BadInput("the corpus is bytes: vocabulary must be 256 or more", value=shape.vocabulary)
    if kind == "gpt_training":
        return gpt_training(
            shape, rows=int(p["rows"]), cols=int(p["cols"]), dtype=str(p["dtype"]), seed=int(p["seed"]),
            learning_rate=float(p["learning_rate"]),
        )  # fmt: skip
    if p["prompt"] > p["context"] or p["steps"] > p["context"]:
        raise BadInput("prompt and steps must be at most the context", value=(p["prompt"], p["steps"], p["context"]))
    tokens, _ = load_corpus().held_out_windows(int(p["prompt"]), shape.sequences)
    prompts = tokens[: shape.sequences].astype(int).tolist()
    return gpt_decode(shape, side=int(p["side"]), dtype=str(p["dtype"]), prompts=prompts, seed=int(p["seed"]))


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

    def trial(self, k: int) -> TrialRecord:
        """Carry out trial `k`: draw a fault, run, and let the referee name the outcome."""
        rng = generator(self.spec.campaign.seed, "burnin.trial", k)
        kinds = {name: weight for name, weight in self.spec.faults.kinds.items() if weight > 0}
        weights = np.array(list(kinds.values()), np.float64)
        kind = list(kinds)[int(rng.choice(len(weights), p=weights / weights.sum()))]
        event = self.sampler.draw(kind, rng)
        plan = FaultPlan([event], self.golden.placement)
        core = plan.logical(event)
        result = run_trial(self.golden, event, queue_depth=self.queue_depth)
        label = label_of(self.golden, result, event, core, self.golden.lowered)
        truth: dict[str, Any] = {"kind": kind, **event.to_dict()}
        truth["logical"] = None if core is None else list(core)
        truth["bypassed"] = core is None
        return TrialRecord(k, truth, label, result.symptoms.to_dict(), self._metrics(result, event))

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
    program = _program(kind, p)
    lowered: Lowered = lower(program, sram_words=chain.wafer.machine.sram_words)
    placement = Placement.of(program, fabric)
    depth = int(chain.wafer.machine.queue_depth)
    weights = _trained(p, fabric) if kind == "gpt_decode" else None
    golden = run_golden(
        lowered, placement, int(p["steps"]), queue_depth=depth, weights=weights, runs=int(p.get("clean_runs", 1))
    )
    sites = None
    if spec.faults.sites == "all":
        mask = chain.wafer.present_mask()
        sites = tuple((int(r), int(c)) for r, c in np.argwhere(mask))
    sampler = FaultSampler(lowered, placement, int(p["steps"]), sites)
    digest = fingerprint(
        {
            "program": program.fingerprint,
            "image": fabric.image_fingerprint,
            "golden": golden.result.state_hash,
            "queue_depth": depth,
        }
    )
    return EmulatorBench(spec, chain, golden, sampler, depth, digest)


def check_protection(wafer: WaferSpec) -> None:
    """Refuse a wafer whose protection the emulator does not act out.

    Raises:
        BadInput: names the protection.
    """
    protection = wafer.machine.protection
    for name in ("sram", "links"):
        value = getattr(protection, name)
        if value != "none":
            raise BadInput(
                f"the emulator does not act out {name} protection yet, and rates would be wrong without it",
                value=value,
                cure=f'set machine.protection.{name} = "none"',
            )


def _trained(p: Mapping[str, Any], fabric: Any) -> dict[str, Any] | None:
    """Weights for decoding: the same model after a short training on the same fabric."""
    if not p["trained_steps"]:
        return None
    side = int(p["side"])
    shape = GptShape(**{name: int(p[name]) for name in asdict(GptShape())})
    program = gpt_training(
        shape, rows=1, cols=side, dtype=str(p["dtype"]), seed=int(p["seed"]), learning_rate=float(p["learning_rate"])
    )
    return run(program, fabric, steps=int(p["trained_steps"]), taps=False).memoryx.weights
