"""Campaigns on a Dask cluster: the same rows, also when workers are killed; stopping, and clusters that are away."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import BrokenExecutor

import pytest

from tests.burnin.specs import BENCHES, campaign, rows, write_spec
from tests.burnin.test_survival import ROOT, TRIALS, WORK, options, start, stored, wait_for
from yieldkit.burnin import CampaignRun, dask_crew
from yieldkit.burnin.dask_workers import DaskExecutor
from yieldkit.errors import BadInput, YieldkitError


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    return rows(campaign(WORK, TRIALS).run(tmp_path_factory.mktemp("serial")))


@pytest.fixture(scope="module")
def crew():
    with dask_crew("local:2") as made:
        yield made


def run_on(crew, folder, *overrides):
    one = campaign(WORK, TRIALS, *overrides)
    return one.run(folder, jobs=crew.workers, make_executor=crew.make_executor)


def test_a_cluster_gives_the_rows_of_one_process(crew, serial, tmp_path):
    assert crew.workers == 2
    run = run_on(crew, tmp_path / "a", "campaign.chunk=3")
    assert rows(run) == serial
    assert run.finished
    # The workers keep their bench from one campaign to the next only when it is the same one.
    other = run_on(crew, tmp_path / "b", "campaign.seed=8")
    assert rows(other) == rows(campaign(WORK, TRIALS, "campaign.seed=8").run(tmp_path / "c"))


def test_a_worker_killed_in_the_middle_loses_and_doubles_nothing(serial, tmp_path, monkeypatch):
    fuses = tmp_path / "fuses"
    fuses.mkdir()
    for k in (0, 30, 31, 77):
        (fuses / str(k)).touch()
    # Workers inherit it: trial k kills its worker, once.
    monkeypatch.setenv("COUNTING_FUSE", str(fuses))
    with dask_crew("local:2") as crew:
        run = run_on(crew, tmp_path / "out")
    assert not list(fuses.iterdir())
    assert rows(run) == serial
    assert [record.k for record in run.records()] == list(range(120))


def test_a_chunk_that_always_kills_its_worker_is_given_up_and_the_rest_kept(serial, tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTING_POISON", "50")
    with (
        dask_crew("local:2") as crew,
        pytest.raises(YieldkitError, match=r"died twice on trials 48 to 51 .* --trial 48"),
    ):
        run_on(crew, tmp_path / "out")
    monkeypatch.delenv("COUNTING_POISON")
    kept = CampaignRun.load(tmp_path / "out", benches=BENCHES)
    assert kept.record(47) is not None
    assert kept.record(50) is None
    assert rows(kept.resume()) == serial


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def test_deaths_are_broken_executors_and_errors_stay_errors(crew):
    executor = crew.make_executor(1)
    assert isinstance(executor, DaskExecutor)
    assert isinstance(executor.submit(kill_self).exception(), BrokenExecutor)
    assert isinstance(executor.submit(int, "x").exception(), ValueError)
    # The cluster has started another worker in its place.
    assert executor.submit(divmod, 7, 2).result() == (3, 1)
    # Not pure: the same call twice is carried out twice.
    pids = {executor.submit(os.urandom, 8).result() for _ in range(2)}
    assert len(pids) == 2
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_signals_to_the_whole_group_drain_and_say_how_to_go_on(serial, tmp_path, number):
    out = tmp_path / "out"
    process = start(write_spec(tmp_path), out, "--dask", "local:2", *options(WORK, TRIALS))
    wait_for(lambda: stored(out) >= 8)
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, ""), errors
    found = re.fullmatch(
        rf"yieldkit: stopped by {number.name}; (\d+) of 120 trials are kept; go on with: (.*)\n", errors
    )
    assert found, errors
    assert int(found[1]) == stored(out) < 120
    words = found[2].split()
    assert words[-2:] == ["--dask", "local:2"]
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True, capture_output=True)
    assert rows(CampaignRun.load(out)) == serial


def test_a_scheduler_elsewhere_is_found_by_its_address(crew, serial, tmp_path):
    client = crew.make_executor(1)._client
    address = client.scheduler.address
    process = start(write_spec(tmp_path), tmp_path / "out", "--dask", address, *options(WORK, TRIALS))
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert "120 of 120 trials" in output
    # It only visited: the cluster is still there.
    assert client.submit(int, "3").result() == 3
    assert rows(CampaignRun.load(tmp_path / "out")) == serial


def test_clusters_that_are_not_there(monkeypatch):
    for wrong in ("local:0", "local", "local:x"):
        with pytest.raises(BadInput, match="local:N"), dask_crew(wrong):
            pass
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setattr("yieldkit.burnin.dask_workers._CONNECT_SECONDS", 0.2)
        with pytest.raises(BadInput, match="no Dask scheduler answers"), dask_crew(address):
            pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BadInput, match=r"pip install 'yieldkit\[dask\]'"), dask_crew("local:1"):
        pass


def test_a_worker_with_other_rules_is_refused(crew, monkeypatch):
    client = crew.make_executor(1)._client
    with dask_crew(client.scheduler.address) as visitor:
        assert visitor.workers == 2
    monkeypatch.setattr("yieldkit.burnin.dask_workers.SEMANTICS", 99)
    with pytest.raises(BadInput, match="its trials would be others"), dask_crew(client.scheduler.address):
        pass


@pytest.mark.long
def test_a_scheduler_that_dies_is_told_and_what_is_committed_kept(serial, tmp_path, monkeypatch):
    monkeypatch.setattr("yieldkit.burnin.dask_workers._CONNECT_SECONDS", 5.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    parts = {"scheduler": ["--port", port], "worker": [address, "--nthreads", 4]}
    quiet = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{name}", *(str(word) for word in words), "--no-dashboard"],
            **quiet,
        )
        for name, words in parts.items()
    ]

    def run_and_kill():
        with dask_crew(address) as crew:
            one = campaign(WORK, TRIALS)
            for step in one.iter_run(tmp_path / "out", jobs=2, make_executor=crew.make_executor):
                if step.done == 40:
                    processes[0].kill()

    def answers():
        with socket.socket() as caller:
            return caller.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(answers)
        with pytest.raises(YieldkitError, match="the Dask scheduler is gone"):
            run_and_kill()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    kept = CampaignRun.load(tmp_path / "out", benches=BENCHES)
    assert 40 <= kept.n < 120
    assert rows(kept.resume()) == serial
