"""The dump of a core's configuration and state, to the letter on a small core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.emulator.handmade import role_at, with_role, with_word
from tests.emulator.tiny import gemm_program
from yieldkit.emulator.dump import dump_core, dump_state, launch_named
from yieldkit.emulator.hooks import LaunchHooks, LinkHook, RouteHook, SramHook
from yieldkit.emulator.machine import Machine
from yieldkit.errors import BadInput
from yieldkit.quantities import EAST, SOUTH

CONFIGURATION = """\
core (0, 0) in launch 'gemm': role 0 of 2, as 1 of 2 cores have it

header  starts with task 0; tasks at 58, descriptors at 70

tasks
  x.in:
     0  mov, 2 elements
          D = x[0] at 3, bf16, 2 x +1
          A = fabric in, colour 10, bf16, 2
  product:
     1  mov, 4 elements
          D = __acc:product[0] at 7, fp32, 4 x +1
          A = __zero[0] at 2, fp32, 4 x +0
     2  mac, 4 elements
          D = __acc:product[0] at 7, fp32, 2 x +1, 2 x +2
          A = fabric in, colour 0, bf16, 2 x 2, held over the innermost loop
          B = x[0] at 3, bf16, 2 x +1, 2 x +0
     3  mov, 4 elements
          D = fabric out, colour 1, fp32, 4
          A = __acc:product[0] at 7, fp32, 4 x +1
     4  mov, 2 elements
          D = y[0] at 5, fp32, 2 x +1
          A = fabric in, colour 3, fp32, 2
  y.out:
     5  mov, 2 elements, end
          D = fabric out, colour 12, fp32, 2, then RESET
          A = y[0] at 5, fp32, 2 x +1

routes: colour, position, from, to
    0 0  N to core  column_multicast
    1 0  core to E  chain_east
    3 0  E to core  scatter_west
   10 0  W to core, may advance  stream_scatter
   10 1  W to E  stream_scatter
   12 0  core to E  gather_out

SRAM: words, what they hold
      0 to     1  header
      2 to     2  constant __zero, fp32 1
      3 to     4  tensor x, bf16 2 x 1
      5 to     6  tensor y, fp32 2 x 1
      7 to    10  accumulator __acc:product, fp32 4
     58 to    69  tasks
     70 to   117  descriptors
  71 of 128 words in use; by bank (address modulo 8, assumption): 9 9 10 9 9 9 8 8
"""

STATE = """\
core (1, 0) in task 2, element 22; waits for a word of colour 0
  2 tasks and 38 elements done
  register: mac
  register D: memory at 11, fp32, 2 x +1, 6 x +2, 2 x +0; at (0, 5, 1)
  register A: fabric in, colour 0, bf16, 2 x 6 x 2, held over the innermost loop; at (0, 5, 1)
  register B: memory at 3, bf16, 2 x +2, 6 x +0, 2 x +1; at (0, 5, 1)
  colour 0: sent core 11; received N 11
  colour 10: sent E 10, core 4; received W 15
"""


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def after(hooks, turns=1):
    lowered, streams = gemm_program(2, 3)
    machine = Machine(lowered)
    for turn in range(turns):
        machine.launch(lowered.launches[0], streams, hooks if not turn else None)
    return machine, lowered.launches[0]


def test_the_configuration_of_a_small_core():
    lowered, _ = gemm_program(1, 2, m=2, kc=1, part=1, sram_words=128)
    assert dump_core(lowered, lowered.launches[0], 0, 0) == CONFIGURATION


def test_the_state_of_a_core_that_waits():
    machine, low = after(LaunchHooks(links=(LinkHook(0, 0, SOUTH, 0, 3, True, 0),)))
    assert dump_state(machine, low, 1, 0) == STATE


def test_words_that_were_changed_are_shown_with_what_they_were():
    lowered, _ = gemm_program(2, 3)
    base = lowered.launches[0].table_base
    machine, low = after(
        LaunchHooks(
            sram=(
                SramHook(0, 1, 0, base, 1 << 31),
                SramHook(0, 1, 0, base + 12, 1 << 26),
                SramHook(0, 1, 0, 0, 1 << 20),
            ),
            routes=(RouteHook(0, 1, 0, 12, 1, 8 << SOUTH),),
        )
    )
    lines = dump_state(machine, low, 0, 1).splitlines()
    role = role_at(lowered, 0, 1)
    first = int(role.tables[0])
    assert lines[0] == "core (0, 1) ended its chain after task 5, element 4"
    assert f"  task 0 word 0 is {first ^ 1 << 31:#010x}, was {first:#010x}" in lines
    assert any(line.startswith("  descriptor 0 word 0 is ") for line in lines)
    assert any(line.startswith("  header word 0 is ") for line in lines)
    assert "  route of colour 12 position 1: W to E, S; was W to E" in lines
    # The words that the route sends south fill a queue that nobody empties, and a control word waits behind them.
    assert any(line.startswith("  colour 12: switch at 1; from W 1 of 4 words, 1 of them control; ") for line in lines)


@pytest.mark.parametrize(
    ("address", "bit", "turns", "text"),
    [
        (2, 5, 1, "core (0, 1) halted in task 1"),
        (0, 31, 2, "core (0, 1) never started"),
    ],
)
def test_cores_that_have_stopped(address, bit, turns, text):
    place = address if turns == 2 else gemm_program(2, 3)[0].launches[0].table_base + address
    machine, low = after(LaunchHooks(sram=(SramHook(0, 1, 0, place, 1 << bit),)), turns)
    assert dump_state(machine, low, 0, 1).startswith(text)


def test_a_word_consumed_is_told():
    machine, low = after(LaunchHooks(routes=(RouteHook(0, 1, 0, 2, 0, 8 << EAST),)))
    assert "  colour 2: consumed 12" in dump_state(machine, low, 0, 1).splitlines()


def test_words_that_mean_nothing_are_shown_as_such():
    lowered, _ = gemm_program(2, 3)
    role = role_at(lowered, 0, 1)
    wrong = with_role(lowered, 0, 1, tables=with_word(role, 4, 63))
    text = dump_core(wrong, wrong.launches[0], 0, 1)
    assert "     2  undefined 63, 24 elements, end" in text.splitlines()
    beyond = with_role(lowered, 0, 1, tables=with_word(role, 5, 0x3FF))
    assert "     2  outside the tables" in dump_core(beyond, beyond.launches[0], 0, 1).splitlines()
    still = with_role(lowered, 0, 1, header=np.zeros(2, np.uint32))
    assert "does not start" in dump_core(still, still.launches[0], 0, 1)


def test_cores_and_launches_that_are_not_there_are_refused():
    lowered, _ = gemm_program(2, 3)
    low = lowered.launches[0]
    assert launch_named(lowered, "gemm") is low
    with pytest.raises(BadInput, match=r"no such launch.*it has gemm"):
        launch_named(lowered, "embed")
    with pytest.raises(BadInput, match="2 x 3 cores"):
        dump_core(lowered, low, 2, 0)
    with pytest.raises(BadInput, match="2 x 3 cores"):
        dump_state(Machine(lowered), replace(low), 0, -1)
