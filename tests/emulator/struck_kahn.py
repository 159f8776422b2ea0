"""A core of `kahn` that faults strike, in plain Python: real codewords in SRAM, one strike after the other.

Nothing is shared with the machine but the arithmetic of one element and the encoder of whole words.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from tests.emulator.kahn import ADVANCE, DATA, RESET, Core, Operand
from yieldkit.emulator.kernels.state import binary, compute, decode, encode
from yieldkit.emulator.secded import CORRECTED, DETECTED, check_bits, parity_bit
from yieldkit.emulator.secded import decode as decode_secded

__all__ = ["Memory", "StruckCore"]

DATA_BITS = 0xFFFFFFFF


class Memory:
    """SRAM of one core as it is stored: words and check bits."""

    def __init__(self, words, code):
        self.code = code
        encoder = {"none": np.zeros_like, "parity": parity_bit, "secded": check_bits}[code]
        self.stored = [int(w) | int(c) << 32 for w, c in zip(words, encoder(words), strict=True)]
        self.stuck = {}
        self.events = Counter()

    def _checks(self, word):
        array = np.array([word], np.uint32)
        return {"none": lambda a: [0], "parity": parity_bit, "secded": check_bits}[self.code](array)[0]

    def look(self, address):
        """What a read gives, and the event it raises or None."""
        word, checks = self.stored[address] & DATA_BITS, self.stored[address] >> 32
        if self.code == "parity":
            return word, None if int(self._checks(word)) == checks else "sram_parity"
        if self.code == "secded" and int(self._checks(word)) != checks:
            (given,), (seen,) = decode_secded(np.array([word], np.uint32), np.array([checks], np.uint8))
            return int(given), {CORRECTED: "ecc_corrected", DETECTED: "ecc_uncorrectable"}[int(seen)]
        return word, None

    def __getitem__(self, address):
        word, event = self.look(address)
        if event is not None:
            self.events[event] += 1
        return word

    def __setitem__(self, address, word):
        self.stored[address] = int(word) | int(self._checks(int(word))) << 32
        for hook in self.stuck.get(address, ()):
            self._strike(hook)

    def _strike(self, hook):
        checks = self.stored[hook.address] >> 32 << 32
        word = (self.stored[hook.address] & hook.keep) | checks
        self.stored[hook.address] = word ^ (hook.mask if self.code != "none" else hook.mask & DATA_BITS)

    def strike(self, hook):
        self._strike(hook)
        if hook.lasts:
            self.stuck.setdefault(hook.address, []).append(hook)


class Index(Operand):
    """A descriptor in use whose indices may be anywhere."""

    def step(self):
        self.index[0] += 1
        for level in (0, 1):
            # A level is compared with its extent only when it has been stepped.
            if self.index[level] < self.extents[level]:
                return
            self.index[level] = 0
            self.index[level + 1] += 1

    def ended(self):
        return 0 in self.extents or self.index[2] >= self.extents[2]


def struck(word, hook):
    return (word & hook.keep) ^ (hook.mask & DATA_BITS)


class StruckCore(Core):
    """A core and what strikes it in a launch."""

    def __init__(self, place, words, inbox, send, hooks, first_task, code):
        self.memory = Memory(words, code)
        self.hooks = {
            name: [h for h in getattr(hooks, name) if (h.r, h.c) == place]
            for name in ("sram", "registers", "indices", "operands", "products", "results")
        }
        self.first_task = first_task
        self.executed = self.element = 0
        super().__init__(words, inbox, send)

    def due(self, name):
        """Hooks within elements that strike the present one."""
        now = (self.executed, self.element)
        for hook in self.hooks[name]:
            when = (hook.task, hook.element)
            if when == now or (hook.lasts and when < now):
                yield hook

    def strike_sram(self):
        for hook in list(self.hooks["sram"]):
            if int(self.first_task[hook.phase]) == self.executed:
                self.memory.strike(hook)
                self.hooks["sram"].remove(hook)

    def operand_word(self, number, operand):
        word = int(encode(operand.value, operand.fmt))
        now = word
        for hook in self.due("operands"):
            if hook.operand == number:
                now = struck(now, hook)
        return operand.value if now == word else decode(np.uint32(now), operand.fmt)

    def result(self, opcode, old, a, b, fmt):
        if opcode == 6:
            product = np.float32(a * b)
            word = 0x7FC00000 if np.isnan(product) else int(product.view(np.uint32))
            now = word
            for hook in self.due("products"):
                now = struck(now, hook)
            if now != word:
                product = np.uint32(now).view(np.float32)
            word = int(encode(np.float32(old + product), fmt))
        else:
            word = int(encode(compute(opcode, old, a, b), fmt))
        for hook in self.due("results"):
            word = struck(word, hook)
        return np.uint32(word)

    def run(self):
        sram = self.memory
        header, _ = sram.look(0)
        if not header >> 31:
            self.strike_sram()
            return
        task = header & 0xFFF
        while True:
            self.strike_sram()
            bases = sram[1]
            table, descriptors = bases & 0x3FFF, bases >> 14 & 0x3FFF
            task_words = [sram[table + 2 * task], sram[table + 2 * task + 1]]
            again = [h for h in self.hooks["registers"] if h.lasts and h.task < self.executed]
            for hook in again:
                if hook.operand < 0:
                    task_words[hook.word] = struck(task_words[hook.word], hook)
            numbers = task_words[1]
            words = []
            for place in range(3 if binary(task_words[0] & 63) else 2):
                at = descriptors + 4 * (numbers >> 10 * place & 1023)
                words.append([sram[at + k] for k in range(4)])
            for hook in again:
                if 0 <= hook.operand < len(words):
                    words[hook.operand][hook.word] = struck(words[hook.operand][hook.word], hook)
            operands = [Index(w) for w in words]
            self.element = 0
            while True:
                for hook in self.hooks["registers"]:
                    if (hook.task, hook.element) == (self.executed, self.element):
                        if hook.operand < 0:
                            task_words[hook.word] = struck(task_words[hook.word], hook)
                        elif hook.operand < len(words):
                            words[hook.operand][hook.word] = struck(words[hook.operand][hook.word], hook)
                opcode = task_words[0] & 63
                # A struck opcode may ask for an operand that was not loaded.
                assert (3 if binary(opcode) else 2) <= len(words)
                assert 1 <= opcode <= 16
                for operand, now in zip(operands, words, strict=True):
                    index, value = operand.index, operand.value
                    operand.__init__(now)
                    operand.index, operand.value = index, value
                for hook in self.due("indices"):
                    if hook.operand < len(operands):
                        old = operands[hook.operand].index[hook.level]
                        operands[hook.operand].index[hook.level] = struck(old, hook) & 0xFFFF
                used = operands[: 3 if binary(opcode) else 2]
                if any(o.ended() for o in used):
                    break
                for source in used[1:]:
                    if source.kind == 1:
                        source.value = decode(np.uint32(sram[source.address()]), source.fmt)
                    elif not source.hold or source.index[0] == 0:
                        while not self.inbox[source.colour]:
                            yield True
                        source.value = decode(np.uint32(self.inbox[source.colour].popleft()), source.fmt)
                d = used[0]
                a = self.operand_word(1, used[1])
                b = self.operand_word(2, used[2]) if len(used) > 2 else np.float32(0)
                if d.kind == 1:
                    if opcode != 8 or b != 0:
                        old = decode(np.uint32(sram[d.address()]), d.fmt) if opcode == 6 else np.float32(0)
                        sram[d.address()] = self.result(opcode, old, a, b, d.fmt)
                else:
                    self.send(d.colour, self.result(opcode, np.float32(0), a, b, d.fmt), DATA)
                for operand in used:
                    operand.step()
                self.element += 1
                if d.kind == 3 and d.control:
                    if d.ended():
                        self.send(d.colour, 0, ADVANCE if d.control == 2 else RESET)
                    elif d.control == 3 and d.index[:2] == [0, 0]:
                        self.send(d.colour, 0, ADVANCE)
                yield False
            self.executed += 1
            if not task_words[0] >> 6 & 1:
                self.strike_sram()
                return
            task = task_words[0] >> 7 & 0xFFF
