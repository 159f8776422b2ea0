"""Every code by constructed observations, and near-misses that must not get it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.diagnosis import cases
from yieldkit.diagnosis import Baseline, Thresholds, classify, diagnose, load_taxonomy
from yieldkit.diagnosis.rules import RULES
from yieldkit.emulator.symptoms import CORRUPTION_DETECTED, CoreScan, Symptoms
from yieldkit.errors import BadInput

LAST = cases.STEPS - 1

CASES = {
    "clean run": (cases.CLEAN, "MASKED_OR_BENIGN"),
    "clean decode": (cases.DECODE, "MASKED_OR_BENIGN"),
    "wrong control word without effect": (replace(cases.CLEAN, config_mismatch=(cases.FLIP,)), "MASKED_OR_BENIGN"),
    # CORRECTED and DUE_TRAP
    "corrected": (cases.events("ecc_corrected"), "CORRECTED"),
    "ecc in a healthy run": (cases.events("ecc", "crc"), "CORRECTED"),
    "ecc and a departing loss": (
        replace(cases.away(dict.fromkeys(range(30, 60), 9.0)), events=cases.events("ecc").events),
        "DUE_TRAP",
    ),
    "ecc and a parity trap": (cases.events("ecc", "parity"), "DUE_TRAP"),
    "parity": (cases.events("parity"), "DUE_TRAP"),
    "crc": (cases.events("crc"), "CORRECTED"),
    "crc, then a stall": (cases.stalled(events=cases.events("crc").events, link_mismatch=(cases.GAP,)), "STALL_DROP"),
    "crc in vain, then a stall": (
        cases.stalled(events=cases.events("crc", "crc_failed").events, link_mismatch=(cases.GAP,)),
        "DUE_TRAP",
    ),
    "parity of a word in memory": (cases.events("sram_parity"), "DUE_TRAP"),
    "ecc in vain": (cases.events("ecc_corrected", "ecc_uncorrectable"), "DUE_TRAP"),
    "stopped by the host": (
        replace(cases.events("parity"), status=CORRUPTION_DETECTED, steps_done=LAST, loss=cases.LOSS[:LAST]),
        "DUE_TRAP",
    ),
    "stopped by the host, events lost": (
        replace(cases.CLEAN, status=CORRUPTION_DETECTED, steps_done=LAST, loss=cases.LOSS[:LAST]),
        "DUE_TRAP",
    ),
    "corrected ecc, then a stall by a drop": (
        cases.stalled(events=cases.events("ecc_corrected").events, link_mismatch=(cases.GAP,)),
        "STALL_DROP",
    ),
    "an event counted zero times": (
        replace(cases.CLEAN, events=(replace(cases.events("parity").events[0], count=0),)),
        "MASKED_OR_BENIGN",
    ),
    # stalls
    "drop": (cases.stalled(link_mismatch=(cases.GAP,)), "STALL_DROP"),
    "drop seen by a sequence counter": (cases.stalled(events=cases.events("sequence").events), "STALL_DROP"),
    "sequence counter without a stall": (cases.events("sequence"), "DUE_TRAP"),
    "counts that agree": (cases.stalled(link_mismatch=(replace(cases.GAP, received=10),)), "INCONCLUSIVE"),
    "drop and a wrong hash": (cases.stalled(link_mismatch=(cases.GAP,), config_mismatch=(cases.FLIP,)), "STALL_CTRL"),
    "wrong hash": (cases.stalled(config_mismatch=(cases.FLIP,)), "STALL_CTRL"),
    "unlike counts in a completed run": (replace(cases.CLEAN, link_mismatch=(cases.GAP,)), "MASKED_OR_BENIGN"),
    "deadlock": (cases.deadlocked(), "STALL_DEADLOCK"),
    "circle with a lost word": (replace(cases.deadlocked(), link_mismatch=(cases.GAP,)), "STALL_DROP"),
    "circle broken at one queue": (
        replace(cases.deadlocked(), leftover=cases.deadlocked().leftover[:3]),
        "INCONCLUSIVE",
    ),
    "livelock": (cases.stalled(waiting=(), cycles=10_000), "STALL_LIVELOCK"),
    "too early for a livelock": (cases.stalled(waiting=(), cycles=9_999), "INCONCLUSIVE"),
    "starved for long": (cases.stalled(cycles=10_000), "INCONCLUSIVE"),
    # infrastructure
    "lost endpoint": (cases.events("memoryx"), "INFRASTRUCTURE"),
    "all done, host waits": (cases.stalled(waiting=(), host_missing=(("gradients", 7),)), "INFRASTRUCTURE"),
    "cores and host wait": (cases.stalled(host_missing=(("gradients", 7),)), "INCONCLUSIVE"),
    "ended early": (replace(cases.CLEAN, steps_done=10, loss=cases.LOSS[:10]), "INFRASTRUCTURE"),
    # slow
    "slow": (replace(cases.CLEAN, cycles=1500), "SLOW"),
    "not quite slow": (replace(cases.CLEAN, cycles=1499), "MASKED_OR_BENIGN"),
    "slow and departing": (replace(cases.away({LAST: 9.0}), cycles=1600), "SLOW"),
    "cut": (cases.stalled(waiting=(), stalled_launch="", cycles=10_000), "SLOW"),
    # crash
    "crash": (cases.crashed(), "CRASH"),
    "crash by a flipped task": (cases.crashed(config_mismatch=(cases.FLIP,)), "CRASH"),
    "crash with parity": (cases.crashed(events=cases.events("parity").events), "DUE_TRAP"),
    # NaN
    "nan, flat norm": (cases.nan_at(40), "NAN_HW"),
    "nan, norm at the limit": (cases.nan_at(40, recent=3.0), "NAN_HW"),
    "nan, norm over the limit": (cases.nan_at(40, recent=3.01), "NAN_MODEL"),
    "growth inside the reference window only": (cases.nan_at(40, near=50.0), "NAN_HW"),
    "nan with 20 steps of history": (cases.nan_at(20), "NAN_HW"),
    "nan with 19 steps of history": (cases.nan_at(19), "INCONCLUSIVE"),
    "nan at the first step": (cases.nan_at(0), "INCONCLUSIVE"),
    "nan that leaves": (cases.nan_at(40, until=41), "NAN_SHORT"),
    "nan that leaves, little history": (cases.nan_at(3, until=5), "NAN_SHORT"),
    "nan at the last step": (cases.nan_at(LAST), "NAN_HW"),
    # the loss against the band
    "spike": (cases.away({30: 9.0}), "SPIKE"),
    "spike of one step at 2 half widths": (cases.away({30: 2.0}), "SPIKE"),
    "one step below 2 half widths": (cases.away({30: 1.99}), "MASKED_OR_BENIGN"),
    "two steps in a row": (cases.away({30: 1.1, 31: 1.2}), "SPIKE"),
    "two steps apart": (cases.away({30: 1.9, 32: 1.9}), "MASKED_OR_BENIGN"),
    "below the band": (cases.away({30: -9.0}), "SPIKE"),
    "sharp": (cases.away(dict.fromkeys(range(30, 60), 8.0)), "SHARP_DEGRADE"),
    "sharp at the last step": (cases.away({LAST: 8.0}), "SHARP_DEGRADE"),
    "sharp, then slow": (cases.away({t: 8.0 + (t - 30) for t in range(30, 60)}), "SHARP_SLOW_DEGRADE"),
    "a slow drift": (cases.away({t: 0.3 * (t - 25) for t in range(26, 60)}), "SLOW_DEGRADE"),
    "a worse plateau": (cases.away(dict.fromkeys(range(30, 60), 1.8)), "LOW_ACCURACY"),
}


@pytest.mark.parametrize(("symptoms", "code"), CASES.values(), ids=list(CASES))
def test_code(symptoms: Symptoms, code: str) -> None:
    verdict = classify(symptoms, baseline=cases.BASELINE if symptoms.program == "p" else None)
    assert verdict.code == code, verdict
    assert verdict.evidence
    assert 0 < verdict.confidence <= 1
    assert sum(site.confidence for site in verdict.site_candidates) <= 1 + 1e-9
    assert verdict.version == load_taxonomy().version
    assert verdict.persistence == "unknown"


def test_every_code_of_diagnosis_has_a_rule_and_a_case() -> None:
    codes = {entry.id for entry in load_taxonomy().on("manifestation") if entry.judge == "diagnosis"}
    assert set(RULES) == codes
    assert {code for _, code in CASES.values()} | {"SDC_BITS"} == codes


def test_sdc_bits_needs_the_golden_channel() -> None:
    wrong = replace(cases.DECODE, tokens=(1, 2, 9, 4))
    without = Baseline(program="d")
    with_tokens = Baseline(program="d", tokens=(1, 2, 3, 4))
    assert classify(wrong, baseline=without).code == "MASKED_OR_BENIGN"
    verdict = classify(wrong, baseline=with_tokens)
    assert verdict.code == "SDC_BITS"
    assert "1 of 4 tokens differ from a clean run, first at 2" in verdict.evidence[0]
    assert classify(cases.DECODE, baseline=with_tokens).code == "MASKED_OR_BENIGN"


def test_decode_nan_is_the_machines_when_clean_runs_are_finite() -> None:
    run = replace(cases.DECODE, logit_nonfinite=3)
    assert classify(run).code == "INCONCLUSIVE"
    assert classify(run, baseline=Baseline(program="d")).code == "NAN_HW"
    assert classify(run, baseline=Baseline(program="d", logit_nonfinite=5)).code == "NAN_MODEL"


def test_a_nan_that_clean_runs_have_too_is_the_models() -> None:
    diverging = replace(cases.BASELINE, loss=(*cases.LOSS[:40], *[cases.NAN] * 20))
    assert classify(cases.nan_at(40), baseline=diverging).code == "NAN_MODEL"
    later = replace(cases.BASELINE, loss=(*cases.LOSS[:41], *[cases.NAN] * 19))
    assert classify(cases.nan_at(40), baseline=later).code == "NAN_HW"


def test_without_a_baseline_the_answer_is_less_sure_and_says_why() -> None:
    verdict = classify(cases.CLEAN)
    assert verdict.code == "MASKED_OR_BENIGN"
    assert verdict.confidence == 0.5
    assert any("no band" in line for line in verdict.evidence)


def test_evidence_carries_the_numbers() -> None:
    text = " ".join(classify(cases.nan_at(40, recent=2.5), baseline=cases.BASELINE).evidence)
    assert "2.50 x the median 1 of steps 0..32" in text
    assert "steps 33..40" in text


def test_actions_are_the_taxonomys() -> None:
    verdict = classify(cases.stalled(link_mismatch=(cases.GAP,)))
    assert (verdict.action.immediate, verdict.action.follow_up) == ("replay", "map out the link")
    assert classify(cases.deadlocked()).action.follow_up == "never map out"


def test_a_baseline_of_another_program_is_refused() -> None:
    with pytest.raises(BadInput, match="another program"):
        classify(cases.DECODE, baseline=cases.BASELINE)


def test_thresholds_move_the_line() -> None:
    run = replace(cases.CLEAN, cycles=1200)
    assert classify(run, thresholds=Thresholds(slow_flag=1.2)).code == "SLOW"
    with pytest.raises(BadInput):
        Thresholds(nan_window=(8, 40))


def test_negative_control_noise_inside_the_band_is_never_a_failure() -> None:
    """3 sigma half widths: a departure needs 6 sigma once or 3 sigma twice in a row; a shift of 2 bands must show."""
    from yieldkit.rng import generator

    draw = generator(5, "tests.noise")
    quiet = loud = 0
    for _ in range(300):
        noise = draw.normal(0.0, 1 / 3, cases.STEPS)
        quiet += classify(cases.away(dict(enumerate(noise))), baseline=cases.BASELINE).code != "MASKED_OR_BENIGN"
        shifted = {t: x + (2.5 if t >= 20 else 0.0) for t, x in enumerate(noise)}
        loud += classify(cases.away(shifted), baseline=cases.BASELINE).code != "MASKED_OR_BENIGN"
    assert quiet <= 2  # 300 runs x 59 pairs x 0.0027² = 0.13 expected
    assert loud == 300


def test_alias() -> None:
    assert diagnose is classify


def test_a_waiting_core_with_an_unknown_state_does_not_break_the_scan() -> None:
    run = cases.stalled(waiting=(CoreScan(0, 0, "STALLED", task=0, colour=0),))
    assert classify(run).code == "INCONCLUSIVE"
