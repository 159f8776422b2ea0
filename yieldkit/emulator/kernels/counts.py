"""The count interpreter: how far every core and router comes, from counts of words alone.

Control never reads a value, so which words a core fetches and sends, in which order, is fixed by its tables, and what a
router does by its route words and by where control words stand in its streams. The final state is found in two passes.

Forward, with queues that hold any number of words: each process goes as far as the words that are there let it, until
nobody goes on. Streams are lists of runs, so a process is looked at once for each stretch of words, not for each word.

Back, with queues of their depth: a process may not have sent more than its consumer took, plus the depth, nor taken
more than was sent. Every process is cut to what that allows, from the first pass down, until all of it holds.
"""

from yieldkit.emulator.kernels.counts_router import router_forward, router_to_bounds, wake_sender
from yieldkit.emulator.kernels.counts_state import (
    MOVED,
    OWNER,
    PUT,
    QUEUES,
    TAKEN,
    UNBOUNDED,
    wake_slot,
)
from yieldkit.emulator.kernels.counts_tables import go_on
from yieldkit.emulator.kernels.state import compiled

ENDED, NEED_ROOM, ENDLESS = 0, 1, 2


@compiled
def _visit(graph, core, bounded):
    """Look at a core and its routers until none of them can go on; False without room for the runs."""
    while graph.dirty[core] != 0:
        graph.dirty[core] = 0
        for slot in range(graph.first_slot[core], graph.first_slot[core + 1]):
            if graph.mark_slot[slot] != 0:
                graph.mark_slot[slot] = 0
                if bounded:
                    graph.tally[MOVED] += 1
                    router_to_bounds(graph, slot)
                elif not router_forward(graph, slot):
                    return False
        if graph.mark_core[core] != 0:
            graph.mark_core[core] = 0
            go_on(graph, core, bounded)
    return True


@compiled
def _settle(graph, bounded, most):
    """Sweep over the cores, up and down in turn, until nobody can go on.

    Words that go east and south come through in one sweep up, those that go west and north in one down.
    """
    n = graph.dirty.shape[0]
    up = True
    moving = True
    while moving:
        moving = False
        for k in range(n):
            core = k if up else n - 1 - k
            if graph.dirty[core] != 0:
                moving = True
                if not _visit(graph, core, bounded):
                    return NEED_ROOM
                if graph.tally[MOVED] > most:
                    return ENDLESS
        up = not up
    return ENDED


@compiled
def forward(graph, most):
    """The first pass: ENDED, NEED_ROOM (begin anew with more memory) or ENDLESS (more than `most` words moved)."""
    graph.mark_core[:] = 1
    graph.dirty[:] = 1
    for feed in range(graph.feed_queue.shape[0]):
        wake_slot(graph, graph.queue[graph.feed_queue[feed], OWNER])
    return _settle(graph, False, most)


@compiled
def back(graph):
    """The second pass: everybody is cut to what words and room allow, from the first pass down."""
    for queue in range(graph.tally[QUEUES]):
        if graph.queue[queue, PUT] - graph.queue[queue, TAKEN] > graph.depth:
            wake_sender(graph, queue)
    for slot in range(graph.slot_core.shape[0]):
        if graph.into[slot] - graph.fetched[slot] > graph.depth or graph.struck[slot] != 0:
            wake_slot(graph, slot)
    _settle(graph, True, UNBOUNDED)


@compiled
def onward(graph, most):
    """Let those who were marked go on with the words and the room there are, and all whom that concerns.

    From a state that is reached this gives what is reached next, a few words at a time. ENDED, or ENDLESS after `most`
    looks at a router.
    """
    graph.tally[MOVED] = 0
    return _settle(graph, True, most)
