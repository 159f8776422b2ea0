"""The states of a clean run in one file: equal bits, shared, read-only, checked."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from yieldkit.burnin.golden import run_golden
from yieldkit.burnin.golden_states import CHECK_EVERY, GoldenStates, states_folder
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import Placement
from yieldkit.errors import BadFile
from yieldkit.fabric import Fabric
from yieldkit.workloads.decode import gpt_decode
from yieldkit.workloads.gpt import gpt_training

STEPS = 3
SIZES = {"layers": 1, "width": 8, "heads": 2, "context": 4, "sequences": 2}


@cache
def job_of(kind):
    program = (
        gpt_training(rows=2, cols=2, **SIZES)
        if kind == "training"
        else gpt_decode(side=2, prompts=[[1, 2], [3, 4]], **SIZES)
    )
    return lower(program)


def states(path: Path, kind="training") -> GoldenStates:
    job = Job.start(job_of(kind), taps=True)
    kept = [job.checkpoint()]
    for _ in range(STEPS):
        job.run_step()
        kept.append(job.checkpoint())
    return GoldenStates.write(path, {"a": 1}, kept)


@pytest.mark.parametrize("kind", ["training", "decode"])
def test_a_job_goes_on_from_any_state_as_it_did(tmp_path, kind):
    kept = states(tmp_path / "x.states", kind)
    assert len(kept) == STEPS + 1
    assert kept.facts == {"a": 1}
    for number in range(STEPS):
        job = Job.start(job_of(kind), checkpoint=kept.state(number), taps=True)
        assert kept.holds(number, job)
        report = job.run_step().report
        assert job.checkpoint().state_hash == kept.state(number + 1).state_hash
        straight = Job.start(job_of(kind), taps=True)
        reports = [straight.run_step().report for _ in range(number + 1)]
        assert repr(report) == repr(reports[-1])
        assert kept.holds(number + 1, job)
        if kind == "training":
            assert not kept.holds(number, job)


def test_equal_runs_write_equal_files(tmp_path):
    first, second = states(tmp_path / "a"), states(tmp_path / "b")
    assert first.path.read_bytes() == second.path.read_bytes()


def test_one_differing_bit_is_another_state(tmp_path):
    kept = states(tmp_path / "x.states")
    job = Job.start(job_of("training"), checkpoint=kept.state(1))
    job.memoryx.second["head"].view(np.uint32)[0, 0] ^= 1
    assert not kept.holds(1, job)


def test_arrays_are_views_that_nobody_can_write(tmp_path):
    array = states(tmp_path / "x.states").state(0).weights["head"]
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1.0
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        array.flags.writeable = True


def test_a_stray_write_into_the_mapping_ends_the_process_and_changes_nothing(tmp_path):
    kept = states(tmp_path / "x.states")
    before = kept.path.read_bytes()
    code = (
        "import ctypes, sys\n"
        "from yieldkit.burnin.golden_states import GoldenStates\n"
        "array = GoldenStates(sys.argv[1]).state(0).weights['head']\n"
        "print(float(array[0, 0]), flush=True)\n"
        "ctypes.memset(array.__array_interface__['data'][0], 0xFF, 4)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(kept.path)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(float(kept.state(0).weights["head"][0, 0]))
    assert done.returncode == -signal.SIGSEGV
    assert kept.path.read_bytes() == before
    kept.check()


@pytest.mark.parametrize("place", [0, 40, -1, -4000])
def test_a_damaged_file_is_refused(tmp_path, place):
    path = states(tmp_path / "x.states").path
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(BadFile):
        GoldenStates(path)


def test_a_short_file_is_refused(tmp_path):
    path = states(tmp_path / "x.states").path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadFile, match="truncated"):
        GoldenStates(path)


def golden_of(folder):
    low = job_of("training")
    placement = Placement.of(low.program, Fabric.perfect(2, 2))
    return run_golden(low, placement, STEPS, queue_depth=4, weights=None, runs=2, folder=folder)


def test_whoever_comes_second_opens_what_the_first_one_wrote(tmp_path, monkeypatch):
    first = golden_of(tmp_path)
    (path,) = tmp_path.iterdir()
    monkeypatch.setattr(GoldenStates, "write", lambda *_: pytest.fail("written twice"))
    second = golden_of(tmp_path)
    assert second.states.path == path
    assert second.result.symptoms == first.result.symptoms
    assert second.result.state_hash == first.result.state_hash
    assert second.clean == first.clean
    assert second.baseline == first.baseline


def test_a_damaged_file_of_a_clean_run_is_made_anew(tmp_path):
    first = golden_of(tmp_path)
    path = first.states.path
    good = path.read_bytes()
    path.unlink()
    path.write_bytes(good[:-8] + bytes(8 * [1]))
    assert golden_of(tmp_path).states.path.read_bytes() == good


def test_hashes_are_checked_again_every_so_many_trials(tmp_path):
    golden = golden_of(tmp_path)
    for _ in range(CHECK_EVERY - 1):
        golden.count_trial()
    # The mapping shows what is in the file, whoever changes it.
    with golden.states.path.open("r+b") as stream:
        stream.seek(-4, 2)
        stream.write(b"oops")
    with pytest.raises(BadFile, match="damaged"):
        golden.count_trial()


def test_the_folder_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("YIELDKIT_CACHE", str(tmp_path))
    assert states_folder() == tmp_path
    monkeypatch.delenv("YIELDKIT_CACHE")
    assert states_folder().name.startswith("yieldkit")
