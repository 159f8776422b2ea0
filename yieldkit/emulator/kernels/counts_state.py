"""Memory of the count interpreter: who sends how many words to whom, without a value and without a word being moved.

A *slot* is a (core, colour) pair that some route, operand or stream uses. A *queue* is an input port of a slot's router
(N, E, S, W, from the core). What goes through a queue is a list of *runs*: `words` data words followed by a control
word (or by none), repeated. Counts of words through a queue include control words; counts into a core do not, since
control words do not enter it.
"""

from typing import NamedTuple

import numpy as np

from yieldkit.emulator.kernels.state import compiled, inlined

FROM_CORE, TO_CORE = 4, 5

# Counters of a graph: int64[TALLY]
TALLY = 8
QUEUES, RUNS, MOVED, FREE = 0, 1, 2, 3

# Run record: int32[runs, RUN]
RUN = 4
WORDS, KIND, TIMES, NEXT = 0, 1, 2, 3

# Queue record: int32[queues, QUEUE]
QUEUE = 9
PUT, TAKEN, HEAD, TAIL, AT_RUN, AT_TIME, AT_WORD, OWNER, PORT = 0, 1, 2, 3, 4, 5, 6, 7, 8

# Task record: int64[tasks, TASK]
TASK = 8
ELEMENTS, COLOUR_A, HOLD_A, COLOUR_B, HOLD_B, COLOUR_D, PLANE, CAPPED = 0, 1, 2, 3, 4, 5, 6, 7

# What strikes a link: int64[d, DROP_ROW]; what and lasts as in `link_faults`
DROP_ROW = 8
SLOT_OF, PORT_OF, NTH, SEEN, MOST, CONTROL_MET, WHAT, LASTS = range(8)

UNBOUNDED = 1 << 40


class Graph(NamedTuple):
    """Processes and what joins them; n cores, s slots, q queues, f streams of MemoryX.

    slot_of int32[n * 24]; slot_core, slot_colour int32[s]; beside int32[s, 4] slot of the neighbour in this colour, -1
    at the border; route uint16[s, 4]; start, position uint8[s] of the switch; struck uint8[s], 1 where a link
    behind the router is struck, 2 where it has a gate; queue_of int32[s, 5]; queue int32[q, QUEUE]; run int32[runs,
    RUN]; into, fetched int32[s] data words that came to the core and that it took; role int32[n], task_first
    int32[roles + 1], task int64[tasks, TASK]; takes, gives uint32[roles] colours of a role's operands; special int32[n]
    number among the cores that are stepped through, or -1; log_first int64[specials + 1], log uint8[actions]: colour, +
    32 for a word sent and + 64 for a control word sent; cap int64[specials] most actions; gated uint8[n], gate int64[g,
    3] (core, colour, most words it may fetch), slot_gate int64[h, 2] (slot, most words its router may move); place
    int64[n, 5] where a core stands (task, element, stage, wait, colour); drop int64[d, 8] what
    strikes links (slot, port, word, words that have come by, most that may, whether a control word was struck, what it
    does, whether it lasts); feed_queue, feed_end int64[f]; feed_of int32[s, 4]; first_slot int32[n + 1]; mark_core
    uint8[n], mark_slot uint8[s] who must be looked at, dirty uint8[n] cores at which somebody must; scratch int64[128];
    tally int64[TALLY].
    """

    slot_of: np.ndarray
    slot_core: np.ndarray
    slot_colour: np.ndarray
    beside: np.ndarray
    route: np.ndarray
    start: np.ndarray
    position: np.ndarray
    struck: np.ndarray
    queue_of: np.ndarray
    queue: np.ndarray
    run: np.ndarray
    into: np.ndarray
    fetched: np.ndarray
    role: np.ndarray
    task_first: np.ndarray
    task: np.ndarray
    takes: np.ndarray
    gives: np.ndarray
    special: np.ndarray
    log_first: np.ndarray
    log: np.ndarray
    cap: np.ndarray
    gated: np.ndarray
    gate: np.ndarray
    slot_gate: np.ndarray
    place: np.ndarray
    drop: np.ndarray
    feed_queue: np.ndarray
    feed_end: np.ndarray
    feed_of: np.ndarray
    first_slot: np.ndarray
    mark_core: np.ndarray
    mark_slot: np.ndarray
    dirty: np.ndarray
    scratch: np.ndarray
    depth: int
    tally: np.ndarray


@inlined
def wake_core(graph, core):
    """Have a core looked at."""
    graph.mark_core[core] = 1
    graph.dirty[core] = 1


@inlined
def wake_slot(graph, slot):
    """Have a router looked at for one of its colours."""
    graph.mark_slot[slot] = 1
    graph.dirty[graph.slot_core[slot]] = 1


@compiled
def new_queue(graph, slot, port):
    """Number of the queue at a port of a slot, made when it is the first touch; -1 without room for it."""
    number = np.int64(graph.queue_of[slot, port])
    if number >= 0:
        return number
    number = graph.tally[QUEUES]
    if number >= graph.queue.shape[0]:
        return np.int64(-1)
    graph.tally[QUEUES] += 1
    graph.queue_of[slot, port] = number
    for k in range(QUEUE):
        graph.queue[number, k] = 0
    graph.queue[number, HEAD] = -1
    graph.queue[number, TAIL] = -1
    graph.queue[number, AT_RUN] = -1
    graph.queue[number, OWNER] = slot
    graph.queue[number, PORT] = port
    return number


@compiled
def _append_run(graph, queue, words, kind, times):
    number = graph.tally[RUNS]
    if number >= graph.run.shape[0]:
        return False
    graph.tally[RUNS] += 1
    graph.run[number, WORDS] = words
    graph.run[number, KIND] = kind
    graph.run[number, TIMES] = times
    graph.run[number, NEXT] = -1
    tail = graph.queue[queue, TAIL]
    if tail < 0:
        graph.queue[queue, HEAD] = number
    else:
        graph.run[tail, NEXT] = number
    graph.queue[queue, TAIL] = number
    return True


@compiled
def append(graph, queue, words, kind, times):
    """Let `times` runs of `words` data words and a control word (0: none) come into a queue; False without room."""
    if kind == 0:
        words *= times
        times = 1
        if words == 0:
            return True
    graph.queue[queue, PUT] += (words + (1 if kind != 0 else 0)) * times
    tail = graph.queue[queue, TAIL]
    if tail >= 0:
        open_words = graph.run[tail, WORDS]
        if graph.run[tail, KIND] == 0:
            # What has come so far of a run goes on; a reader's place in it stays right.
            graph.run[tail, WORDS] = open_words + words
            graph.run[tail, KIND] = kind
            times -= 1
            if kind == 0 or times == 0:
                return True
        elif kind != 0 and open_words == words and graph.run[tail, KIND] == kind:
            graph.run[tail, TIMES] += times
            return True
    return _append_run(graph, queue, words, kind, times)
