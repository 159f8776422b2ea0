"""The tables in docs/ say what the code does."""

import importlib.util
import re
import shlex
from pathlib import Path

import click
import pytest

import yieldkit as yk
from yieldkit.burnin.spec import FAULT_KINDS, KIND_GROUPS, SITES, UNITS
from yieldkit.cli import app
from yieldkit.emulator import isa
from yieldkit.emulator.channels import CHANNELS, COLOUR_OF, routes_of
from yieldkit.faults import PLACES
from yieldkit.quantities import RAMP, WEST

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _rows(page: str, *head: str) -> list[list[str]]:
    """Cells of the table whose heading begins with `head`."""
    lines = (DOCS / page).read_text().splitlines()
    start = next(
        number
        for number, line in enumerate(lines)
        if line.startswith("| " + " | ".join(head) + " |") and lines[number + 1].startswith("|---")
    )
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def _fields() -> dict[tuple[str, str], int]:
    """Mask of every (word, field) of the documented configuration."""
    found = {}
    for word, bits, field, _ in _rows("machine.md", "word", "bits", "field"):
        low, _, high = bits.partition("-")
        mask = sum(1 << bit for bit in range(int(low), int(high or low) + 1))
        found[word, field if field != "unused" else f"unused {low}"] = mask
    return found


def test_every_bit_of_configuration_is_documented_once():
    fields = _fields()
    words = {word for word, _ in fields}
    assert words == {"route", "header 0", "header 1", "task 0", "task 1", "descriptor 0", "descriptor 1-3"}
    for word in words:
        masks = [mask for (name, _), mask in fields.items() if name == word]
        assert sum(masks) == 0xFFFFFFFF
        union = 0
        for mask in masks:
            assert union & mask == 0
            union |= mask


def test_documented_bits_are_those_that_lowering_writes():
    fields = _fields()

    def written(*words: int) -> int:
        """Bits that differ between two words."""
        return words[0] ^ words[1]

    route = isa.route_word
    assert written(route(WEST, []), route(RAMP, [])) & ~fields["route", "rx"] == 0
    assert written(route(0, []), route(0, range(5))) == fields["route", "tx"]
    assert written(route(0, [], last=True), route(0, [], last=False)) == fields["route", "last"]
    tops = [(1 << 12) - 1, (1 << 14) - 1, (1 << 14) - 1]
    zero = isa.header_words(0, 0, 0)
    assert written(zero[0], isa.header_words(tops[0], 0, 0)[0]) == fields["header 0", "first"]
    assert zero[0] == fields["header 0", "start"]
    assert isa.header_words(0, tops[1], 0)[1] == fields["header 1", "tasks"]
    assert isa.header_words(0, 0, tops[2])[1] == fields["header 1", "descriptors"]
    task = isa.task_words
    assert task(63, 0, 0, 0, None)[0] == fields["task 0", "opcode"]
    assert task(0, 0, 0, 0, 0)[0] == fields["task 0", "has-next"]
    assert written(task(0, 0, 0, 0, 0)[0], task(0, 0, 0, 0, 4095)[0]) == fields["task 0", "next"]
    for place, name in enumerate("DAB"):
        numbers = [1023 if place == other else 0 for other in range(3)]
        assert task(0, *numbers, None)[1] == fields["task 1", name]
    plain = isa.descriptor_words(0, 0, [])[0]
    assert plain == 0
    for name, options in {
        "base": {"base": (1 << 14) - 1},
        "colour": {"colour": 31},
        "hold": {"hold": True},
        "control": {"control": 3},
    }.items():
        assert isa.descriptor_words(0, 0, [], **options)[0] == fields["descriptor 0", name]
    assert isa.descriptor_words(3, 0, [])[0] == fields["descriptor 0", "kind"]
    assert isa.descriptor_words(0, 3, [])[0] == fields["descriptor 0", "format"]
    assert isa.descriptor_words(0, 0, [(65535, 0)])[1] == fields["descriptor 1-3", "extent"]
    assert isa.descriptor_words(0, 0, [(1, -1)])[1] ^ 1 == fields["descriptor 1-3", "stride"]


def test_opcodes_are_documented():
    assert {name: int(code) for code, name, _ in _rows("machine.md", "opcode", "name")} == isa.OPCODES


def test_colours_are_documented():
    documented = {name: colours for name, colours, _ in _rows("machine.md", "channel", "colour")}
    assert {name: int(colours.split(",")[0]) for name, colours in documented.items()} == COLOUR_OF
    named = {int(c) for colours in documented.values() for c in colours.split(",")}
    used = set()
    for channel in CHANNELS:
        for r in range(5):
            for c in range(5):
                used |= set(routes_of(channel, r, c, 5, 5))
    assert used == named
    assert set(range(isa.COLOURS)) - named == {21, 22, 23}


def test_places_of_faults_are_documented():
    assert tuple(row[0] for row in _rows("machine.md", "place", "what is struck", "when")) == PLACES


def test_classes_of_places_are_documented_with_their_units():
    unit_names = {
        "Mbit": ("bit", "host_bit"),
        "core": ("core",),
        "directed link": ("link",),
        "link to MemoryX": ("host",),
    }
    documented = {}
    for row in _rows("campaigns.md", "site", "a place is", "moments", "raw rate by the"):
        for name in re.findall(r"`?([a-z_]+)`?", re.sub(r"\([^)]*\)", "", row[0]).replace("`", "")):
            documented[name] = unit_names[row[3]]
    assert set(documented) == set(SITES)
    assert all(UNITS[name] in units for name, units in documented.items())
    assert {*KIND_GROUPS, *SITES} == set(FAULT_KINDS)


def test_numbers_of_the_machine_are_those_of_the_code():
    text = (DOCS / "machine.md").read_text()
    for number in (f"{isa.SRAM_WORDS:,} words", f"{isa.COLOURS} colours", f"{isa.POSITIONS} switch positions"):
        assert number in text
    assert yk.WaferSpec.preset("mini").machine.queue_depth == 4


def test_api_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_api", DOCS / "make_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (DOCS / "api.md").read_text()
    assert set(yk.__all__) <= set(re.findall(r"^## (\w+)$", text, re.MULTILINE))
    assert text == module.page(), "run python docs/make_api.py"


@pytest.mark.parametrize("name", sorted(path.name for path in DOCS.glob("*.md")))
def test_page_is_in_the_index(name):
    if name != "index.md":
        assert f"({name})" in (DOCS / "index.md").read_text()


@pytest.mark.parametrize("name", ["repair.md", "studies.md", "wafer.md"])
def test_python_blocks_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, name, "exec"), {})


def _command_lines() -> list[tuple[str, str]]:
    found = []
    for page in sorted(DOCS.glob("*.md")):
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            found += [(page.name, line) for line in block.splitlines() if line.startswith("yieldkit ")]
    return found


@pytest.mark.parametrize(("page", "line"), _command_lines())
def test_documented_commands_and_options_exist(page, line):
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = app
    context = click.Context(app, info_name="yieldkit")
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{page}: no command {name}"
        command = found
    command.make_parser(click.Context(command)).parse_args(words)
