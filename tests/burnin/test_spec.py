"""Specs: what is read, and every wrong field named at once."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.burnin.specs import BENCHES, campaign, tables, write_spec
from yieldkit.burnin import EXAMPLE_SPEC, Campaign
from yieldkit.burnin.spec_file import apply_overrides, toml_text
from yieldkit.errors import BadFile, BadInput, BadSpec


def problems(data, folder=None):
    with pytest.raises(BadSpec) as caught:
        Campaign.from_tables(data, benches=BENCHES, folder=folder)
    return dict(caught.value.problems)


def test_the_example_is_a_valid_spec_and_its_comments_name_real_fields(tmp_path):
    benches = {"emulator": "tests.burnin.counting_bench"}
    spec = Campaign.from_tables(tomllib.loads(EXAMPLE_SPEC), benches=benches).spec
    assert spec.campaign.trials == 200
    assert spec.faults.kinds == {"accumulator": 2, "config": 2, "link_drop": 1, "link_flip": 1, "sram_data": 4}
    (tmp_path / "lot.klarf").write_text("x")
    (tmp_path / "my-wafer.toml").write_text("x")
    stop = EXAMPLE_SPEC.replace("# [campaign.stop]", "[campaign.stop]").replace("# label", "label")
    stop = stop.replace("# half_width", "half_width").replace("# confidence", "confidence")
    law = stop[stop.index("law =") : stop.index("# ... or the defects")]
    other = stop.replace(law, "").replace("# klarf", "klarf")
    other = other.replace("# wafer_id", "wafer_id").replace("# place", "place")
    other = other.replace('preset = "mini"         # or: spec', "spec").replace(" (paths start", " # (paths start")
    spec = Campaign.from_tables(tomllib.loads(other), benches=benches, folder=tmp_path).spec
    assert spec.campaign.stop.half_width == 0.03
    assert spec.wafer.defects.klarf == str(tmp_path / "lot.klarf")
    assert spec.wafer.spec == str(tmp_path / "my-wafer.toml")


def test_every_wrong_field_is_named_at_once():
    data = tables(trials=0, sed=3, seed=-1, chunk=2.5, name="")
    data["wafer"] = {"presett": "mini", "defects": {"law": "negative_binomal", "d0_per_cm2": "much"}, "repair": 3}
    data["program"] = {"kind": "counting", "steps": [1, 2], "lr": float("nan"), "work": "forbidden"}
    data["faults"] = {"kinds": {"sram_data": -1}, "site": "used"}
    data["extra"] = 1
    found = problems(data)
    assert set(found) == {
        "campaign.trials",
        "campaign.sed",
        "campaign.seed",
        "campaign.chunk",
        "campaign.name",
        "wafer",
        "wafer.presett",
        "wafer.defects.law",
        "wafer.defects.d0_per_cm2",
        "wafer.repair",
        "program.steps",
        "program.lr",
        "program.work",
        "faults.kinds.sram_data",
        "faults.site",
        "extra",
    }
    assert "did you mean seed?" in found["campaign.sed"]
    assert "did you mean preset?" in found["wafer.presett"]
    assert "did you mean sites?" in found["faults.site"]
    assert "'poisson' or 'negative_binomial'" in found["wafer.defects.law"]
    assert "known: campaign, faults, program, rates, strata, trials, wafer" in found["extra"]
    assert "got 0" in found["campaign.trials"]


def test_what_only_the_emulator_knows_is_suggested():
    data = tables(bench="emulator")
    data["program"] = {"kind": "gpt_trainign"}
    data["faults"] = {"kinds": {"sram_dta": 1}}
    with pytest.raises(BadSpec) as caught:
        Campaign.from_tables(data, benches={"emulator": "tests.burnin.counting_bench"})
    found = dict(caught.value.problems)
    assert "did you mean gpt_training?" in found["program.kind"]
    assert "did you mean sram_data?" in found["faults.kinds.sram_dta"]


@pytest.mark.parametrize(
    ("wafer", "field", "what"),
    [
        ({}, "wafer", "either preset or spec"),
        ({"preset": "mini", "spec": "x.toml"}, "wafer", "either preset or spec"),
        ({"spec": "nowhere.toml"}, "wafer.spec", "no such file"),
        ({"preset": "mini", "defects": {}}, "wafer.defects", "either law or klarf"),
        ({"preset": "mini", "defects": {"law": "poisson"}}, "wafer.defects.d0_per_cm2", "missing"),
        (
            {"preset": "mini", "defects": {"law": "poisson", "d0_per_cm2": 0.1, "alpha": 2}},
            "wafer.defects.alpha",
            "belongs to",
        ),
        (
            {"preset": "mini", "defects": {"law": "negative_binomial", "d0_per_cm2": 0.1}},
            "wafer.defects.alpha",
            "needs it",
        ),
        ({"preset": "mini", "defects": {"klarf": "nowhere.klarf"}}, "wafer.defects.klarf", "no such file"),
        ({"preset": "mini", "defects": {"klarf": "nowhere.klarf"}}, "wafer.defects.place", "needs it"),
        (
            {"preset": "mini", "defects": {"klarf": "a", "wafer_id": "1", "place": "as_is", "seed": 1}},
            "wafer.defects.seed",
            "belongs to a law",
        ),
        (
            {"preset": "mini", "defects": {"law": "poisson", "d0_per_cm2": 1, "place": "as_is"}},
            "wafer.defects.place",
            "belongs to klarf",
        ),
    ],
)
def test_rules_between_fields(wafer, field, what, tmp_path):
    assert what in problems({**tables(), "wafer": wafer}, tmp_path)[field]


@pytest.mark.parametrize("section", ["campaign", "wafer", "program", "faults"])
def test_missing_and_misshapen_sections(section):
    data = tables()
    del data[section]
    assert problems(data)[section] == "is missing"
    assert section in problems({**tables(), section: 3})


def test_dates_and_weights_of_zero_are_refused():
    data = tomllib.loads('[program]\nkind = "counting"\nwhen = 2026-01-01')
    assert "date" in problems({**tables(), **data})["program.when"]
    assert "above 0" in problems({**tables(), "faults": {"kinds": {"sram_data": 0}}})["faults.kinds"]


def test_an_unknown_bench_names_those_known():
    assert "known: counting, emulator" in problems(tables(bench="conting"))["campaign.bench"]
    with pytest.raises(BadSpec, match="cannot be imported"):
        Campaign.from_tables(tables(), benches={"counting": "tests.burnin.no_such_bench"})
    with pytest.raises(BadSpec, match="has no check_spec and no open_bench"):
        Campaign.from_tables(tables(), benches={"counting": "tests.burnin.specs"})


@pytest.mark.parametrize(
    ("text", "what"),
    [(b"[campaign\n", "line 1"), (b"\xff", "not UTF-8"), (b"a = 1\na = 2\n", "TOML"), (b"a = " + b"[" * 9000, "TOML")],
)
def test_files_that_are_not_specs(tmp_path, text, what):
    path = tmp_path / "c.toml"
    path.write_bytes(text)
    with pytest.raises(BadFile, match=what):
        Campaign.from_toml(path, benches=BENCHES)
    with pytest.raises(BadFile, match="cannot be read"):
        Campaign.from_toml(tmp_path, benches=BENCHES)


def test_overrides_are_toml_values_and_bare_words_are_strings(tmp_path):
    path = write_spec(tmp_path)
    overrides = [
        "campaign.trials=5",
        "campaign.stop={label='BENIGN', half_width=0.1}",
        "wafer.id=W 9",
        "program.on=true",
    ]
    spec = Campaign.from_toml(path, overrides=overrides, benches=BENCHES).spec
    assert (spec.campaign.trials, spec.campaign.stop.label, spec.wafer.id) == (5, "BENIGN", "W 9")
    assert spec.program.parameters == {"on": True}
    assert Campaign.from_toml(path, benches=BENCHES).spec.campaign.trials == 60
    with pytest.raises(BadSpec, match=r"campaign\.trails: is not known; did you mean trials\?"):
        Campaign.from_toml(path, overrides=["campaign.trails=5"], benches=BENCHES)
    for wrong in ("campaign.trials", "=3", "a..b=3", "campaign.seed.x=3"):
        with pytest.raises(BadInput):
            Campaign.from_toml(path, overrides=[wrong], benches=BENCHES)


scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.recursive(scalars | names, lambda inner: st.dictionaries(names, inner, max_size=4), max_leaves=12))
def test_resolved_specs_read_back_as_they_were_written(value):
    value = value if isinstance(value, dict) else {"x": value}
    assert tomllib.loads(toml_text(value)) == value


def test_order_of_writing_changes_nothing():
    data = tables()
    data["faults"]["kinds"] = dict(reversed(data["faults"]["kinds"].items()))
    data = dict(reversed(data.items()))
    other = Campaign.from_tables(data, benches=BENCHES)
    assert other.spec == campaign().spec
    assert list(other.spec.faults.kinds) == ["link_drop", "sram_data"]
    assert other.fingerprint == campaign().fingerprint


def test_overrides_leave_the_original_alone():
    data = {"a": {"b": 1}}
    assert apply_overrides(data, ["a.b=2"]) == {"a": {"b": 2}}
    assert data == {"a": {"b": 1}}
