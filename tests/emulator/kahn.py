"""A launch played in plain Python with queues without end, and every word on every link written down.

Slow, and with nothing of the machine or of the closed form but the arithmetic of one element: images in, words out.
"""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np

from yieldkit.emulator.host_words import inputs_of, words_in
from yieldkit.emulator.kernels.state import binary, compute, decode, encode

DATA, ADVANCE, RESET = 0, 1, 2
FROM_CORE = 4
STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))


class Operand:
    """One descriptor in use."""

    def __init__(self, words):
        first = int(words[0])
        self.base, self.kind, self.fmt = first & 0x3FFF, first >> 14 & 3, first >> 16 & 3
        self.colour, self.hold, self.control = first >> 18 & 31, first >> 23 & 1, first >> 24 & 3
        self.extents = [int(w) & 0xFFFF for w in words[1:]]
        self.strides = [int(np.int16(int(w) >> 16)) if w >> 31 == 0 else (int(w) >> 16) - 65536 for w in words[1:]]
        self.index = [0, 0, 0]
        self.value = np.float32(0)

    def ended(self):
        return self.index[2] >= self.extents[2]

    def step(self):
        self.index[0] += 1
        for level in (0, 1):
            if self.index[level] == self.extents[level]:
                self.index[level] = 0
                self.index[level + 1] += 1

    def address(self):
        return self.base + sum(i * s for i, s in zip(self.index, self.strides, strict=True))


class Core:
    """Tasks of one core as a generator that stops where a word is missing."""

    def __init__(self, sram, inbox, send):
        self.sram, self.inbox, self.send = sram, inbox, send
        self.running = self.run()
        self.done = False

    def go(self):
        """Run on until a word is missing; whether anything was done."""
        if self.done:
            return False
        moved = False
        for waits in self.running:
            if waits:
                return moved
            moved = True
        self.done = True
        return True

    def run(self):
        sram = self.sram
        if not sram[0] >> 31:
            return
        task = int(sram[0]) & 0xFFF
        table, descriptors = int(sram[1]) & 0x3FFF, int(sram[1]) >> 14 & 0x3FFF
        while True:
            word, numbers = (int(w) for w in sram[table + 2 * task : table + 2 * task + 2])
            opcode = word & 63
            operands = []
            for place in range(3 if binary(opcode) else 2):
                at = descriptors + 4 * (numbers >> 10 * place & 1023)
                operands.append(Operand([int(w) for w in sram[at : at + 4]]))
            d, sources = operands[0], operands[1:]
            while not any(o.ended() for o in operands):
                values = []
                for source in sources:
                    if source.kind == 1:
                        source.value = decode(sram[source.address()], source.fmt)
                    elif not source.hold or source.index[0] == 0:
                        while not self.inbox[source.colour]:
                            yield True
                        source.value = decode(np.uint32(self.inbox[source.colour].popleft()), source.fmt)
                    values.append(source.value)
                a, b = values[0], values[1] if len(values) > 1 else np.float32(0)
                if d.kind == 1:
                    if opcode != 8 or b != 0:
                        old = decode(sram[d.address()], d.fmt) if opcode == 6 else np.float32(0)
                        sram[d.address()] = encode(compute(opcode, old, a, b), d.fmt)
                else:
                    self.send(d.colour, encode(compute(opcode, np.float32(0), a, b), d.fmt), DATA)
                for operand in operands:
                    operand.step()
                if d.kind == 3 and d.control:
                    if d.ended():
                        self.send(d.colour, 0, ADVANCE if d.control == 2 else RESET)
                    elif d.control == 3 and d.index[:2] == [0, 0]:
                        self.send(d.colour, 0, ADVANCE)
                yield False
            if not word >> 6 & 1:
                return
            task = word >> 7 & 0xFFF


def play(low, index, sram, streams, make=None):
    """Words and kinds by (r, c, port, colour), the ramp to the core as port 4; `sram` uint32[rows, cols, words].

    `make((r, c), sram, inbox, send)` gives the core at a place, where it is not to be a plain one.
    """
    launch = low.launches[index]
    rows, cols = launch.role_of.shape
    log = defaultdict(list)
    queue = defaultdict(deque)
    position = defaultdict(int)
    inbox = [[defaultdict(deque) for _ in range(cols)] for _ in range(rows)]
    for phase in inputs_of(launch.launch):
        for item in words_in(low.program, phase, streams[phase.stream]):
            queue[item.r, item.c, item.port, item.colour].extend(zip(item.words, item.kinds, strict=True))

    def sender(r, c):
        return lambda colour, word, kind: queue[r, c, FROM_CORE, colour].append((word, kind))

    make = make or (lambda place, words, box, send: Core(words, box, send))
    cores = [[make((r, c), sram[r, c], inbox[r][c], sender(r, c)) for c in range(cols)] for r in range(rows)]
    routes = [[launch.roles[launch.role_of[r, c]].routes for c in range(cols)] for r in range(rows)]

    def route(r, c, colour):
        moved = False
        while True:
            word = int(routes[r][c][colour, position[r, c, colour]])
            port = (word & 7) - 1
            if port < 0 or not queue[r, c, port, colour]:
                return moved
            carried, kind = queue[r, c, port, colour].popleft()
            moved = True
            for out in range(5):
                if not word >> (3 + out) & 1:
                    continue
                if out < 4 or kind == DATA:
                    log[r, c, out, colour].append((int(carried), int(kind)))
                if out == 4:
                    if kind == DATA:
                        inbox[r][c][colour].append(carried)
                elif 0 <= r + STEPS[out][0] < rows and 0 <= c + STEPS[out][1] < cols:
                    there = (r + STEPS[out][0], c + STEPS[out][1], (out + 2) % 4, colour)
                    queue[there].append((carried, kind))
            if kind == ADVANCE and not word >> 8 & 1:
                position[r, c, colour] += 1
            elif kind == RESET:
                position[r, c, colour] = 0

    while True:
        moved = False
        for r in range(rows):
            for c in range(cols):
                moved |= cores[r][c].go()
                for colour in range(24):
                    if routes[r][c][colour].any():
                        moved |= route(r, c, colour)
        if not moved:
            break
    assert all(core.done or not core.sram[0] >> 31 for line in cores for core in line)
    assert not any(queue.values())
    return {key: tuple(np.array(part) for part in zip(*words, strict=True)) for key, words in log.items()}
