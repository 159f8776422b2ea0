"""Checkpoints: going on from one gives the bits of a run that never stopped, and what is not whole is refused."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.tiny import GPT, batches, perfect, tiny_gpt
from yieldkit.emulator.checkpoint import Checkpoint
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import run
from yieldkit.errors import BadFile, BadInput
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.workloads.decode import gpt_decode


def decode():
    return lower(gpt_decode(side=2, prompts=[[1, 2], [3, 4]], **GPT))


def whole_run(low, executor, steps, **options):
    """Digests of all steps, and a checkpoint at every step's end."""
    job = Job.start(low, executor=executor, **options)
    kept = [job.checkpoint()]
    digests = []
    for _ in range(steps):
        digests.append(job.run_step().digest)
        kept.append(job.checkpoint())
    return digests, kept, job


@pytest.mark.parametrize("executor", ["tensor", "reference"])
@pytest.mark.parametrize("kind", ["training", "decode"])
def test_a_job_goes_on_as_if_it_had_never_stopped(kind, executor, tmp_path):
    low, steps = (tiny_gpt(), 3) if kind == "training" else (decode(), 4)
    options = {"batches": batches(3)} if kind == "training" else {}
    digests, kept, job = whole_run(low, executor, steps, **options)
    assert len({c.state_hash for c in kept}) == steps + 1
    for at in range(steps):
        again = Job.start(low, executor=executor, checkpoint=kept[at], **options)
        assert again.checkpoint().state_hash == kept[at].state_hash
        for step in range(at, steps):
            assert again.run_step().digest == digests[step]
            assert again.checkpoint().state_hash == kept[step + 1].state_hash
        assert [t.tolist() for t in again.tokens] == [t.tolist() for t in job.tokens]
        assert again.memoryx.state_hash == job.memoryx.state_hash
    # What goes on elsewhere leaves the checkpoint alone.
    assert Checkpoint.load(kept[1].save(tmp_path / "one")).state_hash == kept[1].state_hash


def test_a_run_goes_on_from_a_checkpoint():
    low = decode()
    whole = run(low, perfect(), steps=4)
    half = run(low, perfect(), steps=2).job.checkpoint()
    rest = run(low, perfect(), steps=2, checkpoint=half, executor="reference")
    assert rest.step_digests == run(low, perfect(), steps=4, executor="reference").step_digests[2:]
    assert rest.tokens.tolist() == whole.tokens.tolist()
    assert rest.job.checkpoint().state_hash == whole.job.checkpoint().state_hash


def test_both_executors_make_the_same_checkpoint_and_take_each_others():
    for low, options in ((decode(), {}), (tiny_gpt(), {"batches": batches(2)})):
        _, one, _ = whole_run(low, "tensor", 2, **options)
        _, other, _ = whole_run(low, "reference", 2, **options)
        assert [c.state_hash for c in one] == [c.state_hash for c in other]
        moved = Job.start(low, executor="reference", checkpoint=one[1], **options)
        moved.run_step()
        assert moved.checkpoint().state_hash == one[2].state_hash


def test_a_decode_checkpoint_holds_the_cache():
    low = decode()
    _, kept, job = whole_run(low, "tensor", 2)
    assert "d0.kcache" in kept[2].cores
    assert (kept[2].cores["d0.kcache"] == job.executor.read("d0.kcache")).all()
    lost = Job.start(low, checkpoint=kept[2])
    lost.executor.write("d0.kcache", np.zeros_like(kept[2].cores["d0.kcache"]))
    assert lost.run_step().digest != job.run_step().digest


def test_silent_changes_are_saved_with_the_rest():
    """A struck word of the cache and of a constant is data like any other; both executors save it alike."""
    low = decode()
    plan = FaultPlan(
        [
            FaultEvent("sram", 0, 1, 0, "token", mask=1 << 14, address=low.address["d0.kcache"]),
            FaultEvent("sram", 1, 1, 0, "token", mask=1 << 20, address=low.address["k.eps"]),
        ],
        Placement.of(low.program, perfect()),
    )
    hashes = {}
    for executor in ("tensor", "reference"):
        job = Job.start(low, executor=executor)
        job.run_step(plan)
        kept = job.checkpoint()
        assert "k.eps" in kept.cores
        again = Job.start(low, executor=executor, checkpoint=kept)
        assert again.run_step().digest == job.run_step().digest
        hashes[executor] = kept.state_hash, again.checkpoint().state_hash
    assert hashes["tensor"] == hashes["reference"]
    clean = Job.start(low)
    clean.run_step()
    assert clean.checkpoint().state_hash != hashes["tensor"][0]


@pytest.mark.parametrize("executor", ["tensor", "reference"])
def test_only_a_clean_state_is_saved(executor):
    low = decode()
    placement = Placement.of(low.program, perfect())
    # An unused bit of a task word changes nothing but stays, since decoding has one launch.
    flip = FaultEvent("sram", 1, 0, 0, "token", mask=1 << 25, address=low.launches[0].table_base)
    job = Job.start(low, executor=executor)
    assert job.run_step(FaultPlan([flip], placement)).stopped is None
    with pytest.raises(BadInput, match="clean can be saved"):
        job.checkpoint()
    zero = FaultEvent("sram", 1, 0, 0, "token", mask=1, address=low.address["__zero"], phase=3)
    job = Job.start(low, executor=executor)
    assert job.run_step(FaultPlan([zero], placement)).stopped is None
    with pytest.raises(BadInput, match="clean can be saved"):
        job.checkpoint()
    halt = FaultEvent("sram", 1, 0, 0, "token", mask=0x3F, address=low.launches[0].table_base)
    job = Job.start(low, executor=executor)
    assert job.run_step(FaultPlan([halt], placement)).stopped is not None
    with pytest.raises(BadInput, match="half way"):
        job.checkpoint()


def test_what_does_not_belong_is_refused():
    low = decode()
    kept = Job.start(low).checkpoint()
    with pytest.raises(BadInput, match="belongs to program"):
        Job.start(tiny_gpt(), checkpoint=kept)
    with pytest.raises(BadInput, match="no memoryx and no weights"):
        Job.start(low, checkpoint=kept, weights={})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    job = Job.start(decode())
    job.run_step()
    path = job.checkpoint().save(tmp_path_factory.mktemp("checkpoints") / "kept")
    return path, path.read_bytes(), job.checkpoint()


def test_the_file_holds_everything_and_is_the_same_every_time(saved, tmp_path):
    path, data, kept = saved
    assert kept.save(tmp_path / "again").read_bytes() == data
    read = Checkpoint.load(path)
    assert read.state_hash == kept.state_hash
    for table in ("weights", "first", "second", "cores"):
        mine, other = getattr(read, table), getattr(kept, table)
        assert sorted(mine) == sorted(other)
        assert all((mine[name].view(np.uint32) == other[name].view(np.uint32)).all() for name in mine)
    assert (read.power1, read.power2, read.step) == (kept.power1, kept.power2, 1)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_one_clear_error(saved, tmp_path_factory, data):
    _, good, _ = saved
    at = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        bad = good[:at]
    else:
        bad = good[:at] + bytes([good[at] ^ 1 << data.draw(st.integers(0, 7))]) + good[at + 1 :]
    path = tmp_path_factory.mktemp("damaged") / "file"
    path.write_bytes(bad)
    with pytest.raises(BadFile, match=str(path)):
        Checkpoint.load(path)


@pytest.mark.parametrize(
    "header",
    [
        b"{}",
        b"[]",
        b"not json",
        b'{"version":2}',
        b'{"version":1,"arrays":[["weights","w",[99999999999]]]}',
        b'{"version":1,"arrays":[["weights","w",[-4]]]}',
        b'{"version":1,"arrays":[["elsewhere","w",[0]]]}',
        b'{"version":1,"arrays":[]}',
        b"[" * 100_000,
    ],
)
def test_a_file_made_by_hand_is_one_clear_error(header, tmp_path):
    content = b"yieldkit checkpoint\n" + len(header).to_bytes(8, "little") + header
    path = tmp_path / "forged"
    path.write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(BadFile, match="forged"):
        Checkpoint.load(path)
    for length in (0, 1 << 40):
        content = b"yieldkit checkpoint\n" + length.to_bytes(8, "little") + header
        path.write_bytes(content + hashlib.sha256(content).digest())
        with pytest.raises(BadFile, match="header"):
            Checkpoint.load(path)
    with pytest.raises(BadFile, match="cannot be read"):
        Checkpoint.load(tmp_path / "missing")
