"""Every kind of program in campaigns: its parameters are checked by name, and trials end in a word of the taxonomy."""

from __future__ import annotations

from functools import cache

import pytest

from yieldkit.burnin import Campaign
from yieldkit.burnin.emulator_bench import EmulatorBench, open_bench
from yieldkit.burnin.programs import KINDS, check_parameters, make_program, program_parameters
from yieldkit.burnin.spec import PROGRAM_KINDS
from yieldkit.diagnosis import load_taxonomy
from yieldkit.emulator.lowering import lower

GPT = {"layers": 1, "width": 8, "heads": 2, "context": 4, "sequences": 2}
IMAGES = {"side": 8, "classes": 4, "samples": 4, "noise": 4, "layers": 1}
PLACE = {"rows": 2, "cols": 2}
SMALL = {
    "cg": {**PLACE, "depth": 3, "steps": 12},
    "cnn_forward": {**PLACE, **IMAGES, "channels": 4, "steps": 6, "trained_steps": 8},
    "cnn_training": {**PLACE, **IMAGES, "channels": 4, "steps": 12, "clean_runs": 2},
    "gpt_decode": {"side": 2, **GPT, "steps": 4, "trained_steps": 4, "prompt": 2},
    "gpt_forward": {**PLACE, **GPT, "steps": 6, "trained_steps": 4},
    "gpt_training": {**PLACE, **GPT, "steps": 12, "clean_runs": 2},
    "mlp_training": {**PLACE, **IMAGES, "width": 8, "steps": 12, "clean_runs": 2},
    "moe_training": {**PLACE, **GPT, "experts": 2, "steps": 12, "clean_runs": 2},
}
FAULTS = {"sram_data": 4, "accumulator": 4, "config": 4, "link_flip": 2, "link_drop": 1}
CODES = {entry.id for entry in load_taxonomy().entries if entry.axis == "manifestation"}


@cache
def bench(kind: str) -> EmulatorBench:
    tables = {
        "campaign": {"name": "kinds", "seed": 5, "trials": 16},
        "wafer": {"preset": "mini", "defects": {"law": "poisson", "d0_per_cm2": 0.02, "seed": 1}},
        "program": {"kind": kind, **SMALL[kind]},
        "faults": {"kinds": FAULTS},
    }
    return open_bench(Campaign.from_tables(tables).spec)


def test_the_spec_knows_the_kinds():
    assert list(PROGRAM_KINDS) == sorted(KINDS)
    assert set(SMALL) <= set(KINDS)


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_defaults_are_a_program_that_fits(kind):
    program = make_program(kind, program_parameters(kind, {}))
    lower(program)
    assert program.job["kind"] == (kind.partition("_")[2] or "iteration")
    assert check_parameters(kind, {}) == []
    # Every parameter says something: another value is another program, or another run of it.
    about_the_run = {"steps", "clean_runs", "trained_steps"}
    for name in set(KINDS[kind].defaults) - about_the_run - {"learning_rate", "dtype"}:
        value = KINDS[kind].defaults[name]
        doubled = {name: value * 2 if value else 1}
        if not check_parameters(kind, doubled):
            assert make_program(kind, program_parameters(kind, doubled)).fingerprint != program.fingerprint, name


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_every_wrong_parameter_is_named_at_once(kind):
    known = KINDS[kind].defaults
    wrong = {"dtype": "int8", "steps": 0, "seed": -1, "layers": 1.5, "clasess": 4, "contxt": 3, "dept": 2}
    problems = dict(check_parameters(kind, wrong))
    assert set(problems) == {f"program.{name}" for name in wrong}
    if "dtype" in known:
        assert "bf16, fp16, fp32" in problems["program.dtype"]
    own = {"classes": "clasess", "context": "contxt", "depth": "dept"}
    assert [name for name in own if name in known and "did you mean" in problems[f"program.{own[name]}"]] != []
    if "learning_rate" in known:
        assert "negative" in dict(check_parameters(kind, {"learning_rate": -1.0}))["program.learning_rate"]
        assert "number" in dict(check_parameters(kind, {"learning_rate": "fast"}))["program.learning_rate"]


def test_sizes_that_do_not_fit_each_other_are_one_line():
    assert "samples must be a positive multiple of 4" in str(check_parameters("cnn_training", {"samples": 6}))
    assert "vocabulary" in str(check_parameters("moe_training", {"vocabulary": 64}))
    assert "prompt and steps" in str(check_parameters("gpt_decode", {"steps": 17}))


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_trials_of_every_kind_end_in_a_word_of_the_taxonomy(kind):
    made = bench(kind)
    clean = made.golden.result.symptoms
    assert clean.status == "COMPLETED"
    assert clean.steps_done == SMALL[kind]["steps"]
    assert len(clean.loss) == (0 if kind == "gpt_decode" else clean.steps_done)
    labels = [made.trial(k).label for k in range(16)]
    assert set(labels) <= CODES
    assert len(set(labels)) >= 3, labels
    assert made.trial(3).text() == made.trial(3).text()


def test_a_forward_pass_is_judged_by_its_labels():
    """Same labels for all images: benign; another label: SDC_BITS, as for tokens."""
    made = bench("cnn_forward")
    clean = made.golden.result
    assert clean.tokens.shape == (4, 6)
    seen = {}
    for k in range(120):
        record = made.trial(k)
        observed = record.observations
        if observed["status"] == "COMPLETED" and observed["nonfinite_step"] is None:
            changed = list(observed["tokens"]) != list(clean.symptoms.tokens)
            seen.setdefault(changed, set()).add(record.label)
    assert seen[True] == {"SDC_BITS"}
    assert "SDC_BITS" not in seen[False]
    assert "BENIGN" in seen[False]
