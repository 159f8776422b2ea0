"""Death and trouble: kill -9 of the runner or a worker, signals, full disks, folders that cannot be written."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.burnin.specs import BENCHES, campaign, rows, write_spec
from yieldkit.burnin import CampaignRun
from yieldkit.burnin.store import STORE_NAME
from yieldkit.errors import BadFile, YieldkitError
from yieldkit.rng import generator

ROOT = Path(__file__).parents[2]
# Work enough that a run takes about a second and dies in the middle of something.
WORK = "program.work=2000"
TRIALS = "campaign.trials=120"


def start(spec, out, *arguments, jobs=1, limit_bytes=None, env=None):
    """The real command line in a process and a group of its own."""
    # A test run in the background has SIGINT ignored, which a child would inherit.
    code = "import resource, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    if limit_bytes:
        code += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes})); "
    code += "from yieldkit.__main__ import main; main()"
    bench = [f"--bench={kind}={module}" for kind, module in BENCHES.items()]
    command = [sys.executable, "-c", code, "burnin", "run", spec, "--out", out, "--jobs", jobs, *bench, *arguments]
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def options(*overrides):
    return [part for override in overrides for part in ("--set", override)]


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def stored(out):
    try:
        return CampaignRun.load(out).n
    except BadFile:
        return 0


def integrity(out):
    """SQLite's own word for the file, "ok" when nothing in it contradicts the rest."""
    if not (out / STORE_NAME).exists():
        return "ok"
    with closing(sqlite3.connect(f"file:{out / STORE_NAME}?mode=ro", uri=True)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]


def kill_at_random(tmp_path, *, kills, jobs, seed):
    """Kill -9 until enough, each time at another moment; then run to the end."""
    spec = write_spec(tmp_path)
    out = tmp_path / "out"
    rng = generator(seed, "tests.kill")
    seen = []
    for _ in range(kills):
        process = start(spec, out, *options(WORK, TRIALS), jobs=jobs)
        # Half the time somewhere in the start-up, half the time some moments after a commit.
        if rng.random() < 0.5:
            have = stored(out)
            wait_for(lambda have=have, process=process: stored(out) > have or process.poll() is not None)
        time.sleep(float(rng.uniform(0.0, 0.4)))
        process.kill()
        process.communicate()
        seen.append(stored(out))
        assert integrity(out) == "ok"
    process = start(spec, out, *options(WORK, TRIALS), jobs=jobs)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert sorted(seen) == seen
    return CampaignRun.load(out, benches=BENCHES), seen


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return rows(campaign(WORK, TRIALS).run(tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize(("jobs", "kills"), [(1, 4), (2, 2)])
def test_kill_9_of_the_runner_loses_nothing(uninterrupted, tmp_path, jobs, kills):
    run, seen = kill_at_random(tmp_path, kills=kills, jobs=jobs, seed=jobs)
    assert rows(run) == uninterrupted
    assert any(0 < n < 120 for n in seen)


@pytest.mark.long
@pytest.mark.parametrize("jobs", [1, 2])
def test_kill_9_of_the_runner_fifty_times(uninterrupted, tmp_path, jobs):
    for part in range(5):
        folder = tmp_path / str(part)
        folder.mkdir()
        run, _ = kill_at_random(folder, kills=10, jobs=jobs, seed=100 * jobs + part)
        assert rows(run) == uninterrupted


def test_workers_leave_with_a_killed_runner(tmp_path):
    pids = tmp_path / "pids"
    pids.mkdir()
    process = start(
        write_spec(tmp_path),
        tmp_path / "out",
        *options(WORK, "campaign.trials=100000"),
        jobs=2,
        env={"COUNTING_PIDS": str(pids)},
    )
    wait_for(lambda: len(list(pids.iterdir())) == 2)
    process.kill()
    process.communicate()
    workers = [int(path.name) for path in pids.iterdir()]
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), seconds=20)


def kill_workers_at_random(tmp_path, *, kills, seed):
    """Kill -9 of one worker after the other, each some moment after it has begun, while the run goes on."""
    pids = tmp_path / "pids"
    pids.mkdir()
    spec, out = write_spec(tmp_path), tmp_path / "out"
    rng = generator(seed, "tests.kill.worker")
    gone, runs = set(), 0

    def alive():
        found = {int(path.name) for path in pids.iterdir()} - gone - {process.pid}
        return sorted(pid for pid in found if Path(f"/proc/{pid}").exists())

    while True:
        process = start(spec, out, *options("program.work=6000", TRIALS), jobs=2, env={"COUNTING_PIDS": str(pids)})
        runs += 1
        while len(gone) < kills:
            wait_for(lambda process=process: alive() or process.poll() is not None)
            if process.poll() is not None:
                break
            time.sleep(float(rng.uniform(0.0, 0.3)))
            if workers := alive():
                victim = workers[int(rng.integers(len(workers)))]
                os.kill(victim, signal.SIGKILL)
                gone.add(victim)
        _, errors = process.communicate()
        assert integrity(out) == "ok"
        if process.returncode == 0:
            return CampaignRun.load(out, benches=BENCHES), len(gone), runs
        # Killed twice while it ran alone, which the run must take for the chunk's own fault.
        assert (process.returncode, "died twice on trials" in errors) == (1, True), errors
        assert runs <= kills


def test_kill_9_of_workers_at_random_moments(uninterrupted, tmp_path):
    run, killed, _ = kill_workers_at_random(tmp_path, kills=3, seed=1)
    assert killed == 3
    assert rows(run) == uninterrupted


@pytest.mark.long
def test_kill_9_of_workers_fifty_times(uninterrupted, tmp_path):
    total = part = 0
    while total < 50:
        folder = tmp_path / str(part)
        folder.mkdir()
        run, killed, _ = kill_workers_at_random(folder, kills=5, seed=200 + part)
        assert rows(run) == uninterrupted
        assert killed > 0
        total, part = total + killed, part + 1


def test_killed_workers_take_at_most_their_chunk(uninterrupted, tmp_path, monkeypatch):
    fuses = tmp_path / "fuses"
    fuses.mkdir()
    for k in (0, 30, 31):
        (fuses / str(k)).touch()
    monkeypatch.setenv("COUNTING_FUSE", str(fuses))
    run = campaign(WORK, TRIALS).run(tmp_path / "out", jobs=2)
    assert not list(fuses.iterdir())
    assert rows(run) == uninterrupted


def test_a_chunk_that_kills_its_worker_twice_alone_is_given_up(uninterrupted, tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTING_POISON", "50")
    with pytest.raises(YieldkitError, match=r"died twice on trials 48 to 51 .* burnin replay .* --trial 48"):
        campaign(WORK, TRIALS).run(tmp_path, jobs=2)
    kept = CampaignRun.load(tmp_path, benches=BENCHES)
    # What ran beside it was kept, and once the cause is gone the rest follows.
    assert kept.record(47) is not None
    assert kept.record(50) is None
    monkeypatch.delenv("COUNTING_POISON")
    assert rows(kept.resume(jobs=2)) == uninterrupted


@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_signals_drain_commit_and_say_how_to_go_on(uninterrupted, tmp_path, number, jobs):
    out = tmp_path / "out"
    process = start(write_spec(tmp_path), out, *options(WORK, TRIALS), jobs=jobs)
    wait_for(lambda: stored(out) >= 8)
    # To the whole group, as a terminal or a service manager does it.
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert output == ""
    assert errors.count("\n") == 1
    kept = stored(out)
    assert 8 <= kept < 120
    found = re.fullmatch(
        rf"yieldkit: stopped by {number.name}; (\d+) of 120 trials are kept; go on with: (.*)\n", errors
    )
    assert int(found[1]) == kept
    words = found[2].split()
    assert words[:3] == ["yieldkit", "burnin", "resume"]
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True, capture_output=True)
    assert rows(CampaignRun.load(out)) == uninterrupted


def test_a_full_disk_is_one_line_and_can_be_resumed(uninterrupted, tmp_path):
    out = tmp_path / "out"
    # No file may grow beyond this: writing fails in the middle of the run as it does on a full disk.
    process = start(write_spec(tmp_path), out, *options(WORK, TRIALS), limit_bytes=100_000)
    output, errors = process.communicate()
    assert (process.returncode, output) == (2, "")
    assert re.fullmatch(r"yieldkit: .*campaign\.sqlite: .*; make room .*\n", errors), errors
    kept = CampaignRun.load(out, benches=BENCHES)
    assert 0 < kept.n < 120
    assert rows(kept.resume()) == uninterrupted


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    tmp_path.chmod(0o700)
    spec = write_spec(tmp_path)
    for out in ("/proc/campaign", spec / "inside", "/dev/null"):
        process = start(spec, out)
        output, errors = process.communicate()
        assert (process.returncode, output) == (2, ""), errors
        assert re.fullmatch(r"(yieldkit: .*(cannot be|[Nn]ot a directory).*|(?s:Usage: .*Error: .*))\n", errors), errors


def test_a_finished_run_can_be_read_where_nothing_can_be_written():
    code = """if True:
        import os, sys
        import tests.burnin.counting_bench
        from yieldkit.burnin import Campaign, CampaignRun, outcome_table, stop_on_signals
        from yieldkit.errors import BadFile
        folder = sys.argv[1]
        os.chmod(folder, 0o555)
        os.chmod(folder + "/run", 0o555)
        if os.geteuid() == 0:
            # The super-user may write anywhere, so somebody else tries.
            os.setgid(65534), os.setuid(65534)
        run = CampaignRun.load(folder + "/run")
        print(run.n, run.finished, run.running, len(list(run.records())))
        for out in ("/run", "/new"):
            try:
                print(run.campaign.run(folder + out).n)
            except BadFile as error:
                print(type(error).__name__)
        """
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        campaign("campaign.trials=8").run(Path(folder) / "run")
        process = subprocess.run(
            [sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True, check=False
        )
        os.chmod(folder, 0o755)
        os.chmod(Path(folder) / "run", 0o755)
    assert process.stdout.splitlines() == ["8 True False 8", "8", "BadFile"], process.stderr


def test_kill_moments_differ():
    """A control of the test above: the moments are spread, not one."""
    moments = [float(generator(seed, "tests.kill").uniform(0.0, 0.4)) for seed in range(20)]
    assert np.ptp(moments) > 0.2
