"""Occasions and activity of a site against a walk through the descriptors, counters of a clean run, and the machine."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from tests.emulator.tiny import batches, perfect, tiny_gpt
from yieldkit.emulator.isa import MEMORY, OPCODES
from yieldkit.emulator.machine import clean_elements
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import run
from yieldkit.errors import BadInput
from yieldkit.faults import Exposure, FaultEvent, FaultPlan
from yieldkit.faults.ground import Ground
from yieldkit.faults.traffic import task_extents

ORIGIN = (3, 2)


def exposure():
    low = tiny_gpt()
    return Exposure(low, Placement.of(low.program, perfect(), ORIGIN))


def core_event(place, r=1, c=2, **fields):
    return FaultEvent(place, ORIGIN[0] + r, ORIGIN[1] + c, 0, "", **{"mask": 1, **fields})


def walked(low, role):
    """Reads and stores by (phase, address), element by element."""
    image = low.roles[role]
    tasks = image.tables[: 2 * image.n_tasks].reshape(-1, 2)
    descriptors = image.tables[2 * image.n_tasks :].reshape(-1, 4)
    extents = task_extents(image.tables, image.n_tasks)
    reads, stores = Counter(), Counter()
    for number, (first, second) in enumerate(tasks.tolist()):
        phase = max(p for p in range(len(low.launch.phases)) if image.first_task[p] <= number)
        opcode = first & 0x3F
        binary = 2 <= opcode <= 8 or opcode == 16
        for place in range(3 if binary else 2):
            words = descriptors[(second >> (10 * place)) & 0x3FF].tolist()
            if (words[0] >> 14) & 3 != MEMORY:
                continue
            loops = [(w & 0xFFFF, (w >> 16) - (1 << 16 if w >> 31 else 0)) for w in words[1:]]
            indices = product(*(range(extent) for extent, _ in reversed(loops)))
            for done, (outer, middle, inner) in enumerate(indices):
                if done == extents[number]:
                    break
                steps = zip((inner, middle, outer), loops, strict=True)
                at = (phase, (words[0] & 0x3FFF) + sum(i * stride for i, (_, stride) in steps))
                if place == 0:
                    stores[at] += 1
                if place > 0 or opcode == OPCODES["mac"]:
                    reads[at] += 1
    return reads, stores


@pytest.mark.parametrize("core", [(0, 0), (1, 2)])
def test_reads_and_stores_are_those_of_a_walk_through_the_descriptors(core):
    here = exposure()
    for low in here.lowered.launches:
        reads, stores = walked(low, int(low.role_of[core]))
        addresses = sorted({address for _, address in [*reads, *stores]})
        assert len(addresses) > 10
        for address in addresses[:: max(1, len(addresses) // 60)]:
            event = core_event("sram", *core, address=address)
            for kind, expected in (("read", reads), ("store", stores)):
                occasions = here.occasions(event, kind, low)
                found = Counter(occasions.at(k)["phase"] for k in range(occasions.count))
                assert found == {p: n for (p, a), n in expected.items() if a == address}, (low.name, address, kind)


def test_table_words_are_read_when_their_task_starts():
    here = exposure()
    for low in here.lowered.launches:
        image = low.roles[int(low.role_of[1, 2])]
        total = 0
        for word in range(0, 2 * image.n_tasks, 2):
            total += here.occasions(core_event("sram", address=low.table_base + word), "read", low).count
        assert total == image.n_tasks
        operands = 0
        for word in range(2 * image.n_tasks, len(image.tables), 4):
            operands += here.occasions(core_event("sram", address=low.table_base + word), "read", low).count
        opcodes = image.tables[: 2 * image.n_tasks : 2] & 0x3F
        assert operands == sum(3 if 2 <= op <= 8 or op == 16 else 2 for op in opcodes.tolist())
        assert here.occasions(core_event("sram", address=0), "read", low).count == 1


def test_elements_are_those_of_the_tasks():
    here = exposure()
    for low in here.lowered.launches:
        image = low.roles[int(low.role_of[1, 2])]
        occasions = here.occasions(core_event("result"), "element", low)
        assert occasions.count == clean_elements(low)[low.role_of[1, 2]]
        places = [tuple(occasions.at(k).values()) for k in range(occasions.count)]
        assert places == sorted(set(places))
        extents = task_extents(image.tables, image.n_tasks)
        assert all(element < extents[task] for task, element in places)
        macs = (image.tables[: 2 * image.n_tasks : 2] & 0x3F) == OPCODES["mac"]
        assert here.occasions(core_event("product"), "element", low).count == extents[macs].sum()
        b_words = here.occasions(core_event("operand", operand=2), "element", low).count
        assert extents[macs].sum() <= b_words < occasions.count
        assert here.occasions(core_event("register", operand=0), "task", low).count == image.n_tasks


def test_words_over_a_link_are_the_counters_of_a_clean_launch():
    here = exposure()
    event = FaultEvent("link_flip", ORIGIN[0] + 1, ORIGIN[1] + 1, 0, "", mask=1, dcol=1)
    for low, sent in zip(here.lowered.launches, Ground(here.lowered, here.placement, 1).traffic, strict=True):
        occasions = here.occasions(event, "word", low)
        mine = sent.over(1 * 4 + 1, 1)
        assert occasions.count == sum(mine.values())
        assert Counter(occasions.at(k)["colour"] for k in range(occasions.count)) == mine


def test_a_word_that_is_never_read_changes_nothing():
    here = exposure()
    rng = np.random.default_rng(4)
    golden = run(here.lowered, perfect(), origin=ORIGIN, batches=batches(1)).state_hash
    low = here.lowered.launches[2]
    unread = []
    for address in rng.permutation(700):
        event = core_event("sram", address=int(address))
        counts = [here.occasions(event, "read", other).count for other in here.lowered.launches[low.index :]]
        if not any(counts):
            unread.append(int(address))
    assert len(unread) > 20
    events = [core_event("sram", address=a, mask=1 << 30) for a in unread[:20]]
    events = [FaultEvent.from_dict({**event.to_dict(), "launch": low.name}) for event in events]
    plan = FaultPlan(events, here.placement)
    result = run(here.lowered, perfect(), origin=ORIGIN, batches=batches(1), faults=plan)
    assert result.state_hash == golden


def test_activity_is_a_share_of_the_busiest():
    here = exposure()
    for low in here.lowered.launches:
        cores = [here.activity(core_event("result", r, c), low) for r in range(2) for c in range(4)]
        assert max(cores) == 1
        elements = clean_elements(low)[low.role_of].reshape(-1)
        assert cores == pytest.approx(elements / elements.max())
        links = [
            here.activity(FaultEvent("link_drop", ORIGIN[0] + r, ORIGIN[1] + c, 0, "", drow=dr, dcol=dc), low)
            for r in range(2)
            for c in range(4)
            for dr, dc in ((-1, 0), (0, 1), (1, 0), (0, -1))
        ]
        assert max(links) == 1
    assert here.activity(core_event("result", 4, 4), low) == 0


def test_a_site_outside_the_rectangle_has_no_occasions_and_kinds_must_fit():
    here = exposure()
    low = here.lowered.launches[0]
    assert here.occasions(core_event("result", 3, 0), "element", low).count == 0
    assert here.occasions(FaultEvent("link_drop", 0, 0, 0, "", dcol=1), "word", low).count == 0
    for event, kind in ((core_event("result"), "word"), (core_event("sram"), "element"), (core_event("route"), "read")):
        with pytest.raises(BadInput, match="no occasions of this kind"):
            here.occasions(event, kind, low)
