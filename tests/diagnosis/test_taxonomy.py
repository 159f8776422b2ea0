"""The taxonomy file: complete, checked, extensible."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.diagnosis import cases
from yieldkit.diagnosis import classify, load_taxonomy
from yieldkit.diagnosis.taxonomy import AXES
from yieldkit.errors import BadFile, BadInput, BadSpec

ORDER = [
    *("CORRECTED", "DUE_TRAP", "STALL_DROP", "STALL_CTRL", "STALL_DEADLOCK", "STALL_LIVELOCK", "INFRASTRUCTURE"),
    *("SLOW", "CRASH", "NAN_HW", "NAN_MODEL", "NAN_SHORT", "SPIKE", "SHARP_SLOW_DEGRADE", "SHARP_DEGRADE"),
    *("SLOW_DEGRADE", "LOW_ACCURACY", "BENIGN", "SDC_BITS", "MASKED_OVERWRITTEN", "MASKED_UNREAD", "MASKED_LOGICAL"),
    *("MASKED_OR_BENIGN", "INCONCLUSIVE"),
]


def extension(tmp_path: Path, body: str, head: str = 'schema = 1\nversion = "lab1"\n') -> Path:
    path = tmp_path / "extra.toml"
    path.write_text(head + body, encoding="utf-8")
    return path


def test_axes_and_order_of_manifestations() -> None:
    taxonomy = load_taxonomy()
    assert tuple(axis.id for axis in taxonomy.axes) == AXES
    assert [entry.id for entry in taxonomy.on("manifestation")] == ORDER
    assert {len(taxonomy.on(axis)) for axis in AXES} >= {4, 6, 7, 9, 10, 11, 12}


def test_manifestations_say_all_they_must() -> None:
    for entry in load_taxonomy().on("manifestation"):
        assert entry.evidence
        assert entry.outcome_class
        assert entry.immediate
        assert entry.follow_up
        assert entry.source
        assert entry.definition


def test_right_answers() -> None:
    taxonomy = load_taxonomy()
    for label in ("BENIGN", "MASKED_OVERWRITTEN", "MASKED_UNREAD", "MASKED_LOGICAL"):
        assert taxonomy.right_answer(label) == "MASKED_OR_BENIGN"
    for entry in taxonomy.on("manifestation"):
        if entry.judge == "diagnosis":
            assert taxonomy.right_answer(entry.id) == entry.id
    assert taxonomy.manifestation("SDC_BITS").needs == "golden_compare"
    with pytest.raises(BadInput, match="NOPE"):
        taxonomy.right_answer("NOPE")


def test_a_second_file_extends(tmp_path: Path) -> None:
    path = extension(
        tmp_path,
        '[[axis]]\nid="lot"\nname="Lot"\ndefinition="Which lot"\n'
        '[[entry]]\naxis="lot"\nid="L1"\nname="Lot 1"\ndefinition="First lot"\n'
        '[[entry]]\naxis="cause"\nid="cosmic_ray"\nname="Cosmic ray"\ndefinition="Known to be one"\n',
    )
    taxonomy = load_taxonomy(path)
    assert taxonomy.version == "1.0+lab1"
    assert [entry.id for entry in taxonomy.on("lot")] == ["L1"]
    assert "cosmic_ray" in {entry.id for entry in taxonomy.on("cause")}
    assert classify(cases.CLEAN, taxonomy=taxonomy).version == "1.0+lab1"
    assert "lot" in {axis["id"] for axis in taxonomy.to_dict()["axes"]}


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ('[[entry]]\naxis="cause"\nid="defect"\nname="x"\ndefinition="y"\n', "cause.defect: is defined twice"),
        ('[[entry]]\naxis="colour"\nid="red"\nname="x"\ndefinition="y"\n', "no axis 'colour'"),
        ('[[entry]]\naxis="cause"\nid="a"\nname="x"\n', r"entry\[0\].definition: is missing"),
        ('[[entry]]\naxis="cause"\nid="a"\nname=""\ndefinition="y"\n', "must be a non-empty string"),
        ('[[entry]]\naxis="cause"\nid="a"\nname="x"\ndefinition="y"\nweight=3\n', r"entry\[0\].weight: is not a known"),
        ('[[entry]]\naxis="manifestation"\nid="A"\nname="x"\ndefinition="y"\n', "priority: is missing"),
        ('[[axis]]\nid="empty"\nname="x"\ndefinition="y"\n', "axis empty: has no entries"),
        ('[[word]]\nid="W"\nkind="tool"\nmeaning="m"\ncodes=["NOPE"]\n', "no manifestation 'NOPE'"),
        ("entry = 3\n", "must be an array of tables"),
        ("colour = 3\n", "is not a field of a taxonomy"),
    ],
)
def test_wrong_extensions_are_refused_with_the_place(tmp_path: Path, body: str, match: str) -> None:
    with pytest.raises(BadSpec, match=match):
        load_taxonomy(extension(tmp_path, body))


def test_a_manifestation_may_not_take_a_priority_twice(tmp_path: Path) -> None:
    body = (
        '[[entry]]\naxis="manifestation"\nid="MINE"\nname="x"\ndefinition="y"\npriority=10\njudge="referee"\n'
        'diagnosed_as="BENIGN"\nevidence="e"\nclass="c"\nimmediate="i"\nfollow_up="f"\nsource="s"\n'
    )
    with pytest.raises(BadSpec, match="10 is taken by CORRECTED") as caught:
        load_taxonomy(extension(tmp_path, body))
    assert "'BENIGN' is not a code that diagnosis can give" in str(caught.value)


def test_files_that_are_no_taxonomy(tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match="schema: must be 1"):
        load_taxonomy(extension(tmp_path, "", head='version = "x"\n'))
    with pytest.raises(BadFile, match="is not TOML"):
        load_taxonomy(extension(tmp_path, "[[["))
    with pytest.raises(BadFile, match="cannot be read"):
        load_taxonomy(tmp_path / "none.toml")
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadFile, match="UTF-8"):
        load_taxonomy(path)


DOCUMENT = Path(__file__).parents[2] / "docs" / "taxonomy.md"


def test_the_document_prints_the_table_that_is_used() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for entry in load_taxonomy().on("manifestation"):
        action = f"{entry.immediate} / {entry.follow_up}"
        assert f"| {entry.id} | {entry.evidence} | {entry.outcome_class} | {action} | {entry.judge}" in text


def test_the_example_of_the_document_works(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    example = text.split("```toml\n", 1)[1].split("```", 1)[0]
    taxonomy = load_taxonomy(extension(tmp_path, example, head=""))
    assert taxonomy.version == "1.0+lab-2"
    assert taxonomy.right_answer("HOT_SPOT") == "SLOW"
