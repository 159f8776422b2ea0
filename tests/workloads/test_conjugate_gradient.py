"""The 7-point stencil and conjugate gradients: bits against NumPy, the solution against SciPy, and breakdowns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.linalg import spsolve

from yieldkit.emulator.checks import check_lowered
from yieldkit.emulator.job import Job
from yieldkit.emulator.lowering import lower
from yieldkit.emulator.placement import Placement
from yieldkit.emulator.running import run
from yieldkit.errors import BadInput
from yieldkit.fabric import Fabric
from yieldkit.faults import FaultEvent, FaultPlan
from yieldkit.workloads import Program, cg, cg_on_the_host, stencil
from yieldkit.workloads.poisson import apply_operator, initial_fields, operator_of, source_field

EXECUTORS = ["tensor", "reference", "wavelet"]


def same_bits(one, other):
    return one.shape == other.shape and bool((one.view(np.uint32) == other.view(np.uint32)).all())


def matrix(rows, cols, depth, coefficients=(1.0, 1.0, 1.0), shift=0.0):
    """The operator as a sparse float64 matrix over [y, x, z], from Kronecker products."""

    def line(n):
        return sparse.diags([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], [-1, 0, 1], shape=(n, n))

    eye = [sparse.identity(n) for n in (rows, cols, depth)]
    kx, ky, kz = coefficients
    whole = (
        ky * sparse.kron(sparse.kron(line(rows), eye[1]), eye[2])
        + kx * sparse.kron(sparse.kron(eye[0], line(cols)), eye[2])
        + kz * sparse.kron(sparse.kron(eye[0], eye[1]), line(depth))
        + shift * sparse.identity(rows * cols * depth)
    )
    return whole.tocsc()


def execute(program, steps, executor="tensor", **options):
    shape = getattr(program, "program", program)
    return run(program, Fabric.perfect(shape.rows, shape.cols), executor=executor, steps=steps, **options)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_vectors_are_the_hosts_bits(executor):
    program = cg(rows=3, cols=5, depth=4, coefficients=(1.0, 0.3, 2.5), shift=0.1, seed=3)
    rhs = initial_fields(program)["rhs"]
    result = execute(program, 12, executor)
    host = cg_on_the_host(program, rhs, 12)
    for name in ("x", "r", "p"):
        assert same_bits(result.job.executor.read(name), getattr(host, name)), name
    assert result.symptoms.status == "COMPLETED"
    assert result.losses == tuple(np.sqrt(host.rr.astype(np.float64)) / np.linalg.norm(rhs.astype(np.float64)))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 4),
    cols=st.integers(1, 4),
    depth=st.integers(1, 5),
    coefficients=st.tuples(*[st.floats(0.0625, 16, width=32)] * 3),
    shift=st.floats(0, 4, width=32),
    seed=st.integers(0, 1000),
)
def test_any_grid_and_operator(rows, cols, depth, coefficients, shift, seed):
    sizes = {"rows": rows, "cols": cols, "depth": depth, "coefficients": coefficients, "shift": shift, "seed": seed}
    program = cg(**sizes)
    rhs = initial_fields(program)["rhs"]
    results = [execute(program, 4, executor) for executor in ("tensor", "reference")]
    host = cg_on_the_host(program, rhs, 4)
    assert results[0].state_hash == results[1].state_hash
    assert same_bits(results[0].job.executor.read("x"), host.x)
    one = execute(stencil(**sizes), 1)
    image = apply_operator(operator_of(program.job), rhs)
    assert same_bits(one.outputs["image"], image)
    wanted = matrix(rows, cols, depth, coefficients, shift) @ rhs.reshape(-1).astype(np.float64)
    # Eight terms of fp32, each at most the diagonal times the largest value.
    bound = 8 * 2.0**-24 * 2 * operator_of(program.job).terms[0] * np.abs(rhs).max()
    assert np.abs(image.reshape(-1) - wanted).max() <= bound
    assert one.losses[0] == pytest.approx(np.linalg.norm(image.astype(float)) / np.linalg.norm(rhs.astype(float)))


def test_the_operator_is_symmetric_and_positive_definite():
    program = cg(rows=3, cols=4, depth=5, coefficients=(0.5, 2.0, 1.25), shift=0.25)
    operator = operator_of(program.job)
    size = 3 * 4 * 5
    columns = [
        apply_operator(operator, np.eye(size, dtype=np.float32)[n].reshape(3, 4, 5)).reshape(-1) for n in range(size)
    ]
    dense = np.array(columns, np.float64)
    assert (dense == matrix(3, 4, 5, (0.5, 2.0, 1.25), 0.25).toarray()).all()
    assert (dense == dense.T).all()
    assert np.linalg.eigvalsh(dense).min() > 0.25


def test_it_converges_to_what_scipy_finds():
    """Bar of convergence: a residual below 1e-5 of the right-hand side within 40 iterations on the default grid."""
    program = cg()
    result = execute(program, 40)
    rhs = initial_fields(program)["rhs"]
    assert result.losses[0] == pytest.approx(1.0, abs=1e-6)
    assert min(result.losses) < 1e-5
    assert result.losses[32] > 1e-5 > result.losses[33], "the measured step moved"
    x = result.job.executor.read("x").reshape(-1)
    exact = spsolve(matrix(8, 8, 16), rhs.reshape(-1).astype(np.float64))
    # The true residual stops at the rounding of A x in fp32, some 2^-24 times 12 |x|.
    assert np.linalg.norm(x - exact) < 1e-5 * np.linalg.norm(exact)
    true = rhs.reshape(-1) - matrix(8, 8, 16) @ x.astype(np.float64)
    assert np.linalg.norm(true) < 1e-5 * np.linalg.norm(rhs)
    # Negative control: ten iterations are not enough.
    few = execute(program, 10).job.executor.read("x").reshape(-1)
    assert np.linalg.norm(few - exact) > 1e-2 * np.linalg.norm(exact)


def test_golden_run():
    """Hashes of the default run; they change only with the numerics or the program, and then on purpose."""
    assert execute(cg(), 40).state_hash == "ab6ced2d596cc637"
    assert execute(stencil(), 1).state_hash == "a2cafbd409f50eb3"


def test_a_right_hand_side_of_zero_stays_solved():
    program = cg(rows=2, cols=3, depth=4)
    zero = {"rhs": np.zeros((2, 3, 4), np.float32)}
    for executor in EXECUTORS:
        result = execute(program, 5, executor, weights=zero)
        assert result.losses == (0.0,) * 5
        assert result.symptoms.nonfinite_step is None
        for name in ("x", "r", "p"):
            assert not result.job.executor.read(name).any()


def test_an_exact_solution_stays_what_it_is():
    """One point: A is a number, the first iteration solves it; 0 / 0 never comes."""
    program = cg(rows=1, cols=1, depth=1, coefficients=(0.5, 0.5, 1.0))
    for executor in EXECUTORS:
        result = execute(program, 6, executor, weights={"rhs": np.full((1, 1, 1), 3.0, np.float32)})
        assert result.losses == (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        assert result.job.executor.read("x").item() == 0.75


def test_far_beyond_convergence_nothing_moves():
    program = cg(rows=3, cols=3, depth=3)
    result = execute(program, 120)
    assert np.isfinite(result.losses).all()
    assert len(set(result.losses[-60:])) == 1
    assert result.losses[-1] ** 2 * np.linalg.norm(initial_fields(program)["rhs"].astype(float)) ** 2 <= 2.0**-64
    before, after = execute(program, 119), result
    assert same_bits(before.job.executor.read("x"), after.job.executor.read("x"))


@pytest.mark.parametrize("executor", ["tensor", "reference"])
@pytest.mark.parametrize("tensor", ["r", "p"])
def test_a_nan_is_not_selected_away(tensor, executor):
    program = cg(rows=2, cols=2, depth=3)
    low = lower(program)
    job = Job.start(low, executor=executor)
    job.run_step()
    bad = job.executor.read(tensor)
    bad[1, 0, 2] = np.nan
    job.executor.write(tensor, bad)
    reports = [job.run_step().report for _ in range(2)]
    assert np.isnan(reports[-1].loss)
    assert reports[-1].nonfinite == "loss"


def test_a_flip_in_the_solution_does_not_show_in_the_residual():
    """The residual is carried along, so x may be wrong without a sign; a flip in r shows at the next step."""
    program = cg(rows=4, cols=4, depth=4)
    low = lower(program)
    placement = Placement.of(program, Fabric.perfect(4, 4))
    clean = execute(low, 20)
    for name, seen in (("x", False), ("r", True)):
        flip = FaultEvent("sram", 1, 2, 5, "iterate", mask=1 << 29, address=low.address[name] + 1)
        results = [
            execute(low, 20, executor, faults=FaultPlan([flip], placement)) for executor in ("tensor", "reference")
        ]
        assert results[0].state_hash == results[1].state_hash != clean.state_hash
        assert (results[0].losses != clean.losses) == seen


def test_a_control_flip_stays_with_the_tables():
    """One launch: its tables stay resident, so a changed header is still there in the next iteration."""
    program = cg(rows=2, cols=3, depth=2)
    low = lower(program)
    placement = Placement.of(program, Fabric.perfect(2, 3))
    stops = FaultEvent("sram", 1, 1, 2, "iterate", mask=1 << 31, address=0)
    for executor in EXECUTORS:
        result = execute(low, 5, executor, faults=FaultPlan([stops], placement))
        # The core read its header at the start of step 2; it is the next iteration that it never begins.
        assert (result.symptoms.status, result.symptoms.steps_done) == ("STALL_DETECTED", 3)


def test_a_checkpoint_of_the_vectors():
    program = cg(rows=3, cols=3, depth=4)
    low = lower(program)
    for executor in ("tensor", "reference"):
        job = Job.start(low, executor=executor)
        for _ in range(3):
            job.run_step()
        kept = job.checkpoint()
        assert set(kept.cores) == {"x", "r", "p", "rr.before"}
        again = Job.start(low, executor=executor, checkpoint=kept)
        for _ in range(3):
            assert job.run_step().digest == again.run_step().digest
        assert job.checkpoint().state_hash == again.checkpoint().state_hash


def test_programs_hold_together(tmp_path):
    for program in (cg(), stencil()):
        assert Program.load(program.save(tmp_path / "p.json")).fingerprint == program.fingerprint
        assert not check_lowered(lower(program), queue_depth=4).problems


def test_fields_have_structure_and_hang_on_the_seed():
    one, same, other = (source_field(8, 8, 16, seed) for seed in (1, 1, 2))
    assert same_bits(one, same)
    assert not same_bits(one, other)
    # Smooth: neighbours along z are alike, far beyond what noise would be.
    flat = one - one.mean()
    assert (flat[..., 1:] * flat[..., :-1]).sum() > 0.8 * (flat * flat).sum()
    assert one.min() < -0.2 < 0.2 < one.max()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"depth": 0}, "depth"),
        ({"rows": 0}, "rows"),
        ({"coefficients": (1.0, 0.0, 1.0)}, "three positive"),
        ({"coefficients": (1.0, 1.0)}, "three coefficients"),
        ({"shift": -1.0}, "shift"),
        ({"shift": float("nan")}, "shift"),
        ({"floor": 0.0}, "floor"),
    ],
)
def test_what_is_refused(wrong, match):
    with pytest.raises(BadInput, match=match):
        cg(**wrong)
    with pytest.raises(BadInput, match="fields do not fit"):
        execute(cg(rows=2, cols=2, depth=2), 1, weights={"rhs": np.zeros((2, 2, 3), np.float32)})


@pytest.mark.long
def test_a_grid_of_64_by_64_by_64():
    program = cg(rows=64, cols=64, depth=64)
    result = execute(program, 220)
    rhs = initial_fields(program)["rhs"]
    host = cg_on_the_host(program, rhs, 220)
    for name in ("x", "r", "p"):
        assert same_bits(result.job.executor.read(name), getattr(host, name)), name
    assert result.losses[-1] < 1e-5
    true = rhs.reshape(-1) - matrix(64, 64, 64) @ host.x.reshape(-1).astype(np.float64)
    assert np.linalg.norm(true) < 1e-4 * np.linalg.norm(rhs)
