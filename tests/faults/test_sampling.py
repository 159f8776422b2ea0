"""Classes of faults: populations counted word by word, draws that stay in their class and are uniform in it."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from tests.faults.test_events import perfect, tiny_gpt
from yieldkit.burnin import spec as words
from yieldkit.burnin.programs import make_program, program_parameters
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import Placement
from yieldkit.errors import BadInput
from yieldkit.faults import FaultEvent, FaultPlan, FaultSampler
from yieldkit.faults.bits import BIT_CLASSES, LAYOUTS
from yieldkit.faults.models import apply_model
from yieldkit.faults.places import SITE_CLASSES
from yieldkit.faults.roles import launch_kinds, tensor_roles
from yieldkit.faults.sampling import KIND_SITES
from yieldkit.rng import generator

STEPS = 6
SIZES = {"layers": 1, "width": 8, "heads": 2, "context": 4, "sequences": 2}


def sampler(sites=None):
    low = tiny_gpt()
    return FaultSampler(low, Placement.of(low.program, perfect(), (1, 1)), STEPS, sites)


@pytest.fixture(scope="module")
def decode():
    p = program_parameters("gpt_decode", {**SIZES, "side": 2, "prompt": 2, "steps": 4})
    low = lower(make_program("gpt_decode", p))
    return FaultSampler(low, Placement.of(low.program, perfect(), (1, 1)), 4)


@pytest.fixture(scope="module")
def training():
    return sampler()


def class_of_word(made, low, phase, role, word):
    """Site and layout of an SRAM word, from what the lowering says it means."""
    meaning = made.lowered.meaning(low.index, phase, role, word)
    if meaning.kind == "free":
        return "sram_free", "free"
    if meaning.kind in ("constant", "accumulator"):
        return "sram_other", made.lowered.tensors[meaning.name].dtype
    if meaning.kind == "tensor":
        return f"sram_{made.ground.roles[meaning.name]}", made.lowered.tensors[meaning.name].dtype
    layout = {
        "header": f"header_{meaning.index}",
        "task": f"task_{meaning.index % 2}",
        "descriptor": "loop" if meaning.index % 4 else "descriptor_0",
    }[meaning.kind]
    return "sram_code", layout


def thirds(steps):
    """Steps of the third that each step is in."""
    ends = [0, steps // 3, 2 * steps // 3, steps]
    return Counter(("early", "middle", "late")[i] for i in range(3) for _ in range(ends[i], ends[i + 1]))


@pytest.mark.parametrize("program", ["training", "decode"])
def test_populations_of_sram_are_what_counting_every_word_gives(program, request):
    made = request.getfixturevalue(program)
    kinds = launch_kinds(made.lowered.program)
    lowered, number = made.lowered, 0
    role_of = tensor_roles(lowered.program)
    names = ["sram_free free"]

    def code_of(name):
        if name not in names:
            names.append(name)
        return names.index(name)

    expected = Counter()
    for low in lowered.launches:
        roles = Counter(low.role_of.reshape(-1).tolist())
        for _ in low.launch.phases:
            for role, cores in roles.items():
                # Every word is painted with what it holds; words that hold two things would show.
                word = np.zeros(lowered.sram_words, np.int64)
                paint = [(name, *span) for name, span in lowered.life.items() if span[0] <= number <= span[1]]
                for name, _, _ in paint:
                    tensor = lowered.tensors[name]
                    place = slice(lowered.address[name], lowered.address[name] + tensor.size)
                    assert not word[place].any()
                    word[place] = code_of(f"sram_{role_of.get(name, 'other')} {tensor.dtype}")
                image = low.roles[role]
                tables = ["header_0", "header_1"], ["task_0", "task_1"] * image.n_tasks
                rest = (len(image.tables) - 2 * image.n_tasks) // 4
                listed = [*tables[1], *["descriptor_0", "loop", "loop", "loop"] * rest]
                for start, layouts in ((0, tables[0]), (low.table_base, listed)):
                    place = slice(start, start + len(layouts))
                    assert not word[place].any()
                    word[place] = [code_of(f"sram_code {layout}") for layout in layouts]
                for code, n in enumerate(np.bincount(word, minlength=len(names)).tolist()):
                    site, layout = names[code].split()
                    expected[site, layout, kinds[low.name]] += n * cores
            number += 1
    counted = Counter()
    split = {"": made.steps} if program == "decode" else thirds(made.steps)
    for (site, layout, kind), places in expected.items():
        for bit, bits in LAYOUTS[layout].items():
            for third, steps in split.items():
                counted[site, bit, f"{kind}.{third}" if third else kind] += places * len(bits) * steps
    sites = [site for site in SITE_CLASSES if site.startswith("sram_")]
    found = {(one.site, one.bit, one.phase): one.size for one in made.populations(sites)}
    assert found == counted
    # Every bit of every core's SRAM at every phase of every step is in exactly one class.
    phases = sum(len(low.launch.phases) for low in made.lowered.launches)
    cores = made.placement.rows * made.placement.cols
    assert sum(found.values()) == made.lowered.sram_words * 32 * cores * phases * made.steps


def test_populations_of_routes_registers_and_datapaths(training):
    phases = sum(len(low.launch.phases) for low in training.lowered.launches)
    cores = training.placement.rows * training.placement.cols
    total = {site: sum(one.size for one in training.populations([site])) for site in SITE_CLASSES}
    assert total["route"] + total["route_empty"] == 24 * 4 * 32 * cores * phases * STEPS
    macs = elements = 0
    for low in training.lowered.launches:
        for role, cores_of in Counter(low.role_of.reshape(-1).tolist()).items():
            image = low.roles[role]
            tables = image.tables.astype(np.int64)
            for task in range(image.n_tasks):
                word, operands = tables[2 * task], tables[2 * task + 1]
                first = 2 * image.n_tasks + 4 * (operands & 0x3FF)
                n = math.prod(int(tables[first + loop] & 0xFFFF) for loop in (1, 2, 3)) * cores_of
                elements += n
                macs += n * int((word & 0x3F) == 6)
    assert total["product"] == total["accumulator"] == macs * 32 * STEPS
    assert total["accumulator"] + total["result"] == elements * 32 * STEPS
    assert elements * 32 * STEPS < total["operand"] < 2 * elements * 32 * STEPS
    assert total["link_flip"] == 32 * total["link_drop"]
    assert total["link_drop"] == STEPS * sum(int(one.sent.sum()) for one in training.traffic)


@pytest.mark.parametrize("program", ["training", "decode"])
def test_draws_lie_in_their_class(program, request):
    made = request.getfixturevalue(program)
    launches = {low.name: low for low in made.lowered.launches}
    kinds = launch_kinds(made.lowered.program)
    for number, one in enumerate(made.populations(SITE_CLASSES)):
        for seed in range(3):
            rng = generator(1, "tests.class", number, seed)
            event = made.draw_in(one.site, one.bit, one.phase, rng)
            again = made.draw_in(one.site, one.bit, one.phase, generator(1, "tests.class", number, seed))
            assert event == again
            FaultPlan([event], made.placement).check(made.lowered)
            if event.place == "memoryx":
                continue
            kind, _, third = one.phase.partition(".")
            assert kinds[event.launch] == kind
            if third:
                assert ("early", "middle", "late")[3 * event.step // STEPS] == third
            if event.place == "sram":
                core = made.placement.logical(event.row, event.col)
                low = launches[event.launch]
                site, layout = class_of_word(made, low, event.phase, int(low.role_of[core]), event.address)
                assert site == one.site
                assert event.mask.bit_length() - 1 in LAYOUTS[layout][one.bit]
            assert event.mask.bit_count() == int(one.bit != "whole")


def test_draws_are_uniform_in_their_class_and_another_law_is_seen(training):
    draws = 4000
    wanted = [found for found in training.populations(["sram_activations"]) if found.bit == "mantissa_low"]
    one = max(wanted, key=lambda found: found.size)
    events = [training.draw_in(one.site, one.bit, one.phase, generator(2, "tests.uniform", k)) for k in range(draws)]
    cores = training.placement.rows * training.placement.cols
    places = {
        "core": (Counter(event.site for event in events), cores),
        "step": (Counter(event.step for event in events), STEPS // 3),
    }
    for counts, number in places.values():
        p = 1 / number
        assert len(counts) == number
        assert all(abs(n - draws * p) <= 5 * math.sqrt(draws * p * (1 - p)) for n in counts.values())
    # Words are uniform too: tensors get draws by their size times the phases they live in.
    roles, kinds = tensor_roles(training.lowered.program), launch_kinds(training.lowered.program)
    expected = Counter()
    for low in training.lowered.launches:
        if kinds[low.name] != one.phase.partition(".")[0]:
            continue
        for phase in range(len(low.launch.phases)):
            for start, size, kind, name in training.lowered.words_in_use(low.index, phase, 0):
                if kind != "tensor" or roles[name] != "activations":
                    continue
                bits = LAYOUTS[training.lowered.tensors[name].dtype].get(one.bit, ())
                expected[low.name, phase, start] += size * len(bits)
    total = sum(expected.values())
    assert total * cores * (STEPS // 3) == one.size
    starts = Counter()
    for event in events:
        inside = [key for key in expected if key[:2] == (event.launch, event.phase) and key[2] <= event.address]
        starts[max(inside, key=lambda key: key[2])] += 1
    by_launch = Counter()
    for key, size in expected.items():
        by_launch[key[0], key[2]] += size
    seen = Counter()
    for key, n in starts.items():
        seen[key[0], key[2]] += n

    def distance(counts):
        """Chi-square against the sizes, in standard deviations from its mean."""
        size = {key: draws * n / total for key, n in by_launch.items()}
        away = sum((counts[key] - mean) ** 2 / mean for key, mean in size.items())
        free = len(size) - 1
        return (away - free) / math.sqrt(2 * free)

    assert abs(distance(seen)) < 5
    # The control: draws that take each tensor alike would not pass.
    assert distance(dict.fromkeys(by_launch, draws / len(by_launch))) > 5


def test_idle_sites_count_with_the_first_cores_contents():
    made = sampler(sites=((1, 1), (1, 2), (7, 7)))
    used = sampler(sites=((1, 1), (1, 2)))
    idle = made.populations(["sram_activations"]), used.populations(["sram_activations"])
    first = sampler(sites=((1, 1),)).populations(["sram_activations"])
    for one, two, more in zip(*idle, first, strict=True):
        assert one.size == two.size + more.size


def test_roles_do_not_hang_on_names():
    program = tiny_gpt().program
    roles = tensor_roles(program)
    assert roles["head.dz"] == roles["dx"] == "gradients"
    assert roles["x"] == roles["head.loss"] == roles["f0.p"] == "activations"
    assert roles["f0.ln1.gain"] == "weights"
    number = {name: f"t{index}" for index, name in enumerate(roles)}
    import json

    text = json.dumps(program.to_dict())
    for name in sorted(number, key=len, reverse=True):
        for field in ("name", "tensor", "x", "y", "dy", "w", "acc"):
            text = text.replace(f'"{field}": "{name}"', f'"{field}": "{number[name]}"')
    renamed = type(program).from_dict(json.loads(text))
    assert {number[name]: role for name, role in roles.items()} == tensor_roles(renamed)


def test_decoding_has_a_cache_and_resident_weights(decode):
    roles = tensor_roles(decode.lowered.program)
    assert {name for name, role in roles.items() if role == "kv"} == {"d0.kcache", "d0.vcache"}
    assert {roles[item["tensor"]] for item in decode.lowered.program.job["resident"]} == {"weights"}
    assert "gradients" not in roles.values()


def test_names_in_the_spec_are_those_of_the_sampler():
    assert set(words.SITES) == set(SITE_CLASSES)
    assert set(words.FAULT_KINDS) == set(KIND_SITES)
    assert set(words.BITS) == set(BIT_CLASSES)
    assert {name: SITE_CLASSES[name].unit for name in SITE_CLASSES} == dict(words.UNITS)
    for group, members in words.KIND_GROUPS.items():
        assert set(members) == set(KIND_SITES[group])


def test_models_around_a_bit():
    flip = FaultEvent("sram", 1, 1, 0, "head", mask=1 << 30)
    rng = generator(3, "tests.models")
    assert apply_model(flip, "bit", rng) == (flip, "bit")
    assert apply_model(flip, "adjacent_3", rng)[0].mask == 0b111 << 29
    for _ in range(50):
        several = apply_model(flip, "random_4", rng)[0]
        assert several.mask.bit_count() == 4
        assert several.mask & flip.mask
        value = apply_model(flip, "value", rng)[0]
        assert (value.keep, value.lasts) == (0, False)
    old = 0xDEADBEEF
    for model, wanted in (("stuck_1", old | 1 << 30), ("stuck_0", old & ~(1 << 30)), ("zero", 0)):
        made, name = apply_model(flip, model, rng)
        assert (old & made.keep) ^ made.mask == wanted
        assert (made.lasts, name) == (model.startswith("stuck"), model)
    drop = FaultEvent("link_drop", 1, 1, 0, "head", drow=1)
    assert apply_model(drop, "zero", rng) == (drop, "")
    with pytest.raises(BadInput, match="unknown model"):
        apply_model(flip, "melt", rng)


@pytest.mark.parametrize(
    "model", ["bit", "adjacent_2", "adjacent_32", "random_3", "random_32", "stuck_0", "stuck_1", "value", "zero"]
)
def test_every_model_makes_a_sound_event_of_every_class(model, training):
    for number, one in enumerate(training.populations(SITE_CLASSES)):
        rng = generator(6, "tests.sound", number)
        event, name = apply_model(training.draw_in(one.site, one.bit, one.phase, rng), model, rng)
        FaultPlan([event], training.placement).check(training.lowered)
        assert name in (model, "bit", "")
    guarded = FaultEvent("sram", 1, 1, 0, "head", mask=1 << 33)
    assert apply_model(guarded, model, rng) == (guarded, "bit")


def test_check_bits_of_a_protected_word_are_struck_too():
    from yieldkit.wafer import WaferSpec

    low = tiny_gpt()
    bare = FaultSampler(low, Placement.of(low.program, perfect(), (1, 1)), STEPS)
    protected = FaultSampler(low, Placement.of(low.program, perfect(), (1, 1)), STEPS)
    machine = WaferSpec.preset("mini").machine
    guarded = machine.model_copy(update={"protection": machine.protection.model_copy(update={"sram": "secded"})})
    object.__setattr__(protected.placement, "fabric", Guarded(protected.placement.fabric, guarded))
    sizes = [sum(one.size for one in made.populations(["sram_code"])) for made in (bare, protected)]
    assert sizes[1] * 32 == sizes[0] * 39
    event = protected.draw_in("sram_code", "check", "head.late", generator(5, "tests.check"))
    assert 32 <= event.mask.bit_length() - 1 < 39
    assert sum(one.size for one in protected.populations(["route"])) == sum(
        one.size for one in bare.populations(["route"])
    )


class Guarded:
    """A fabric whose machine has another protection."""

    def __init__(self, fabric, machine):
        self._fabric = fabric
        self.spec = type("Spec", (), {"machine": machine})()

    def __getattr__(self, name):
        return getattr(self._fabric, name)
