"""Who is alone and who is not; which rows are whose."""

import threading

import jax
import numpy as np
import pytest

from cmav import distributed
from cmav.errors import UserError
from tests import commands


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_STEP_NUM_TASKS": "16"}, True),
        ({"SLURM_NTASKS": "16"}, False),  # inside salloc, before srun: this process is alone
        ({"OMPI_COMM_WORLD_SIZE": "4"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a,b,c,d"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "cpu"}, False),
    ],
)
def test_several_processes_are_read_off_the_environment(environment, several):
    assert distributed.names_several_processes(environment) is several


def test_an_error_while_joining_is_not_swallowed(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no coordinator")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(RuntimeError, match="no coordinator"):
        distributed.initialize("on")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(RuntimeError, match="no coordinator"):
        distributed.initialize("auto")
    distributed.initialize("off")


def test_an_odd_batch_is_explained():
    class MeshOfThree:
        size = 3

    with pytest.raises(UserError, match="multiple of 3"):
        distributed.local_rows(8, MeshOfThree())


def test_prefetch_keeps_order_and_strings_on_the_host():
    mesh = distributed.make_mesh()
    batches = [{"x": np.full(2, i, np.float32), "clip_id": np.array([b"a", b"b"], object)} for i in range(5)]
    seen = []
    for host, device in distributed.prefetch(batches, mesh):
        assert set(device) == {"x"}
        assert host["clip_id"].tolist() == [b"a", b"b"]
        seen.append(int(device["x"][0]))
    assert seen == [0, 1, 2, 3, 4]


def test_a_batch_that_is_there_is_yielded_though_the_next_is_not():
    goes_on = threading.Event()

    def source():
        for number in range(4):
            if number == 2:
                assert goes_on.wait(60)  # till the batch before it is out
            yield {"x": np.full(1, number, np.float32)}

    seen = []
    for host, _ in distributed.prefetch(source(), distributed.make_mesh()):
        seen.append(int(host["x"][0]))
        if seen == [0, 1]:
            goes_on.set()
    assert seen == [0, 1, 2, 3]


def test_what_its_source_raises_comes_in_its_place():
    def source():
        yield {"x": np.zeros(1, np.float32)}
        raise UserError("no more")

    batches = distributed.prefetch(source(), distributed.make_mesh())
    next(batches)
    with pytest.raises(UserError, match="no more"):
        next(batches)


def test_prefetch_closes_its_source():
    closed = []

    def source():
        try:
            while True:
                yield {"x": np.zeros(1, np.float32)}
        finally:
            closed.append(True)

    batches = distributed.prefetch(source(), distributed.make_mesh())
    next(batches)
    batches.close()
    assert closed == [True]


@pytest.fixture
def kept_where(monkeypatch):
    """Has JAX keep what it compiles nowhere before, and as it was after; gives where it does."""
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    yield lambda: jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", before)


def test_what_is_compiled_is_kept_in_the_users_cache(kept_where, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    distributed.keep_compiled()
    assert kept_where().startswith(str(tmp_path / "cmav" / "xla-"))


def test_what_is_compiled_is_not_kept_where_the_user_says_so_or_nothing_can_be_written(
    kept_where, monkeypatch, tmp_path
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    distributed.keep_compiled()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    distributed.keep_compiled()
    assert kept_where() is None and not (tmp_path / "cmav").exists()


COMPILES = """
import os
del os.environ["JAX_COMPILATION_CACHE_DIR"]
import jax, jax.numpy as jnp
from cmav import distributed
distributed.make_mesh()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(float(jax.jit(lambda x: (jnp.sin(x) @ x).sum())(jnp.ones((7, 7)))))
"""


def test_what_was_kept_may_be_damaged(tmp_path):
    first = commands.run("-c", COMPILES, XDG_CACHE_HOME=str(tmp_path))
    kept = list(tmp_path.rglob("*-cache"))
    assert kept
    for damage in (lambda data: data[: len(data) // 2], lambda data: b"", lambda data: bytes(reversed(data))):
        for path in kept:
            path.write_bytes(damage(path.read_bytes()))
        assert commands.run("-c", COMPILES, XDG_CACHE_HOME=str(tmp_path)).splitlines()[-1:] == first.splitlines()[-1:]
