"""Several devices and processes: start-up, the mesh, host batches as global arrays. (`processes`: what they say.)

Data parallelism over one mesh axis, "data". A batch is sharded on its first axis, everything else is replicated; jit
then puts the collectives in, BatchNorm's over the global batch among them.
"""

import collections
import concurrent.futures
import contextlib
import glob
import hashlib
import importlib.util
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cmav import memory, processes
from cmav.errors import UserError


def initialize(mode: str) -> None:
    """Joins the other processes of the job, of which only the first then logs more than warnings.

    Call before anything else touches JAX.

    Args:
      mode: "on", "off", or "auto": on where the environment names several processes. An error while joining is never
        swallowed: n lone jobs that each believe themselves whole are worse than none.
    """
    if mode == "on" or (mode == "auto" and names_several_processes(os.environ)):
        jax.distributed.initialize()
        logging.info("process %d of %d, %d devices", jax.process_index(), jax.process_count(), jax.device_count())
        processes.watch_for_failures()
        if jax.process_index():  # Progress is told once; warnings are of what only this process may have seen.
            logging.set_verbosity(logging.WARNING)


def names_several_processes(environment: Mapping[str, str]) -> bool:
    """Whether the environment is a job of several processes: a Slurm step, Open MPI, or a TPU virtual machine."""
    for variable in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        if int(environment.get(variable, "1")) > 1:
            return True
    if environment.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu":
        return False
    if "," in environment.get("TPU_WORKER_HOSTNAMES", ""):
        return True
    # A TPU virtual machine does not say in its environment how many hosts the slice has; joining works for one as well.
    has_tpu = bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))
    return has_tpu and importlib.util.find_spec("libtpu") is not None


def make_mesh() -> Mesh:
    """All devices of all processes on one axis, "data", those of one process side by side.

    From then on this process keeps the memory that it frees (`memory.keep_freed`), and what it compiles
    (`keep_compiled`).
    """
    keep_compiled()
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    memory.keep_freed(one_arena=devices[0].platform == "cpu")
    # Auto axes: under Explicit ones `z @ z.T` on sharded embeddings is an error.
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def keep_compiled() -> None:
    """Lets JAX keep on disk what it compiles, for the next start; `JAX_COMPILATION_CACHE_DIR` says elsewhere, "" no.

    Under the user's cache folder, by the CPU's instructions: homes may be shared by machines which have others. Where
    nothing can be written, nothing is kept; an entry that cannot be read is compiled again, with JAX's warning.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(caches, "cmav", f"xla-{_instructions()}")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", folder)


def _instructions() -> str:
    """A short name that is the same for CPUs of the same instruction set."""
    flags = ""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:  # of Linux; elsewhere homes are seldom shared
        flags = next((line for line in file if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec("data"))


def local_rows(batch_size: int, mesh: Mesh) -> slice:
    """Which rows of a global batch this process loads.

    Raises:
      UserError: where the batch does not divide over the devices.
    """
    if batch_size < 1 or batch_size % mesh.size:
        raise UserError(
            f"a batch of {batch_size} does not divide over {mesh.size} devices: "
            f"choose a multiple of {mesh.size} for batch_size (config.phases, config.evals)."
        )
    per_process = batch_size // jax.process_count()
    start = jax.process_index() * per_process
    return slice(start, start + per_process)


def to_devices(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Makes global arrays, sharded on their first axis, of this process's rows. Strings stay behind on the host."""
    sharding = batch_sharded(mesh)
    return {
        key: jax.make_array_from_process_local_data(sharding, value)
        for key, value in batch.items()
        if value.dtype.kind not in "OSU"
    }


def prefetch(batches: Iterable[dict[str, np.ndarray]], mesh: Mesh, ahead: int = 2) -> Iterator[tuple[dict, dict]]:
    """Yields (host batch, device batch), `ahead` of them at a time on the devices or on the way there.

    A thread of its own fetches them: a batch that is there is yielded, though the one after it is not.
    """
    source = iter(batches)
    pairs = ((batch, to_devices(batch, mesh)) for batch in source)
    thread = concurrent.futures.ThreadPoolExecutor(1, "cmav-prefetch")
    try:
        waiting = collections.deque(thread.submit(next, pairs, None) for _ in range(ahead))
        while pair := waiting.popleft().result():
            yield pair
            waiting.append(thread.submit(next, pairs, None))
    finally:
        thread.shutdown(cancel_futures=True)
        if hasattr(source, "close"):
            source.close()


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a tree of host arrays, equal on all processes, on every device."""
    return jax.device_put(tree, replicated(mesh))
