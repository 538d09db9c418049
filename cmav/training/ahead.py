"""Training steps compiled for chips that are not here, by the chips' own compilers: will it fit, and how fast at best?

Nothing runs. Of a TPU's program its compiler estimates the cycles; of a GPU's, XLA leaves convolutions to cuDNN, of
whose time and workspace nothing is known here. Memory is what the compiler has planned for one device.
"""

import dataclasses
import functools
import importlib.util
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

from cmav import distributed
from cmav.errors import UserError
from cmav.models import target
from cmav.tasks import make_task
from cmav.tasks.base import ClipTask
from cmav.training.chips import Slice
from cmav.training.costs import forward_flops
from cmav.training.hlo import Program
from cmav.training.optim import make_optimizer, make_schedule
from cmav.training.phases import list_phases
from cmav.training.step import TrainState, train_step

LARGEST = 5  # buffers to name
LARGE_COPY = 64 * 2**20  # bytes from which on a change of layout is worth a line
_INSTALL = "pip install '.[aot]' in the folder of cmav"


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One phase's training step, or an evaluator's pass, for one device of a slice.

    Attributes:
      name: "phase 0", or an evaluator's.
      batch_size: clips, of all devices together.
      fits: whether the compiler could place it in the device's memory.
      refusal: what it said where it could not.
      compile_seconds: on this machine.
      peak_bytes: weights, batch and what is computed; None where it does not fit and nothing is known.
      temp_bytes_per_device: of that, what is computed.
      memory_bytes: that the device has.
      largest: layers with the largest arrays, and their bytes.
      collectives: how many of each kind, and the bytes that they make.
      copies: changes of layout of `LARGE_COPY` and more: where, and bytes.
      bytes_per_clip: moved in and out of memory by all operations.
      flops_per_clip: of the network as it is written: three times the forward pass where it is trained, frozen or not.
      estimated_cycles_per_clip: of one device, by the TPU's compiler; None: it says nothing.
      seconds_at_best: of one step, by the chip's peak in bfloat16 and its memory's bandwidth, whichever takes longer;
        as if no cache held anything.
      estimated_seconds: of one step, by the estimated cycles.
    """

    name: str
    batch_size: int
    fits: bool
    refusal: str
    compile_seconds: float
    peak_bytes: int | None = None
    temp_bytes_per_device: int | None = None
    memory_bytes: int = 0
    largest: tuple[tuple[str, int], ...] = ()
    collectives: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    copies: tuple[tuple[str, int], ...] = ()
    bytes_per_clip: float | None = None
    flops_per_clip: float | None = None
    estimated_cycles_per_clip: float | None = None
    seconds_at_best: float | None = None
    estimated_seconds: float | None = None


class Compiler:
    """Compiles for a slice. Make it before anything else touches JAX's backends, for it chooses what these find.

    Raises:
      UserError: where the slice's compiler is not installed, or does not know it.
    """

    def __init__(self, slice_: Slice):
        self._slice = slice_
        chip = slice_.chip
        self._platform = "tpu" if chip.platform == "tpu" else "gpu"
        (_prepare_tpu if chip.platform == "tpu" else _prepare_gpu)()
        settings = (
            {} if chip.platform == "tpu" else {"topology": slice_.topology, "target_config": _target_text(slice_)}
        )
        try:
            topology = topologies.get_topology_desc(platform=chip.platform, topology_name=slice_.topology, **settings)
        except Exception as error:  # JAX's and the plugins' own, of many classes.
            raise UserError(f"--device={slice_.name}: its compiler did not start: {error}") from error
        if len(topology.devices) != slice_.devices:
            raise UserError(
                f"--device={slice_.name}: the installed compiler sees {len(topology.devices)} devices in "
                f"{slice_.topology}, not {slice_.devices}."
            )
        self._mesh = Mesh(np.array(topology.devices), ("data",), axis_types=(AxisType.Auto,))

    def phases(self, config: ConfigDict) -> Iterator[Compiled]:
        """The training step of each phase."""
        phases = list_phases(config)
        for number, phase in enumerate(phases):
            yield self.train_step(f"phase {number}", config, phase.settings, phases[-1].last_step)

    def evaluators(self, config: ConfigDict) -> Iterator[Compiled]:
        """The network's plain pass over a batch of each evaluator that has one, in the last phase.

        Finer maps and other shifts, which some evaluators ask for, are not in it.
        """
        task = make_task(config, config.phases[-1])
        for name, settings in config.evals.items():
            if batch_size := settings.get("batch_size"):
                devices = self._slice.devices
                yield self.forward(name, task, -(-batch_size // devices) * devices)

    def what_fits(self, config: ConfigDict, phase: Mapping[str, Any]) -> Compiled | None:
        """Of a phase that does not fit, the first that does; None where a clip a device does not.

        Tried are more rematerialization, and then with the most of it half of the clips, a quarter, and so on.
        """
        config = config.copy_and_resolve_references()
        devices, batch_size = self._slice.devices, phase["batch_size"]
        for remat in ("stem", "encoders"):
            config.model.remat = remat
            compiled = self.train_step(f'{batch_size} clips, remat="{remat}"', config, phase, phase["steps"])
            if compiled.fits:
                return compiled
        while (batch_size := batch_size // 2 // devices * devices) >= devices:
            name, settings = f'{batch_size} clips, remat="{remat}"', {**phase, "batch_size": batch_size}
            compiled = self.train_step(name, config, settings, phase["steps"])
            if compiled.fits:
                return compiled
        return None

    def train_step(self, name: str, config: ConfigDict, phase: Mapping[str, Any], total_steps: int) -> Compiled:
        """A phase's step as training has it: forward, backward and update."""
        batch_size = phase["batch_size"]
        distributed.local_rows(batch_size, self._mesh)
        task = make_task(config, phase)
        optimizer = make_optimizer(config.optim, make_schedule(config.optim, total_steps))

        def init(key):
            variables = task.init(key)
            params = variables.pop("params")
            return TrainState(jnp.zeros((), jnp.int32), params, dict(variables), optimizer.init(params))

        step = functools.partial(
            train_step, task=task, optimizer=optimizer, seed=config.seed, frozen=tuple(config.optim.frozen)
        )
        return self._compile(name, step, init, task, batch_size, passes=3)

    def forward(self, name: str, task: ClipTask, batch_size: int) -> Compiled:
        """The network's answer, without a gradient."""

        def answer(variables, batch):
            outputs, _ = task.apply(variables, batch, train=False)
            return [outputs[key] for key in task.results]

        return self._compile(name, answer, task.init, task, batch_size, passes=1)

    def _compile(self, name, function, init, task: ClipTask, batch_size: int, passes: int) -> Compiled:
        replicated, sharded = distributed.replicated(self._mesh), distributed.batch_sharded(self._mesh)
        with target.compiling_for(self._platform):
            state = jax.eval_shape(init, jax.random.key(0))
            donated = 0 if passes > 1 else ()  # Training's state is.
            batch = _on(task.batch_shapes(batch_size), sharded)
            lowered = jax.jit(function, donate_argnums=donated).lower(_on(state, replicated), batch)
        logging.info("%s: compiling %d clips for %s", name, batch_size, self._slice.name)
        flops = passes * forward_flops(task)
        chip, devices = self._slice.chip, self._slice.devices
        started = time.monotonic()
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            used = re.search(r"Used ([\d.]+)G of", str(error))
            return Compiled(
                name,
                batch_size,
                fits=False,
                refusal=str(error).splitlines()[0],
                compile_seconds=time.monotonic() - started,
                peak_bytes=int(float(used[1]) * 2**30) if used else None,
                memory_bytes=chip.memory,
                flops_per_clip=flops,
            )
        seconds = time.monotonic() - started
        memory, program = compiled.memory_analysis(), Program(compiled.as_text())
        peak = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
        peak -= memory.alias_size_in_bytes
        moved, cycles, clips = program.bytes_moved(), program.cycles(), batch_size / devices
        return Compiled(
            name,
            batch_size,
            fits=peak <= chip.memory,
            refusal="",
            compile_seconds=seconds,
            peak_bytes=peak,
            temp_bytes_per_device=memory.temp_size_in_bytes,
            memory_bytes=chip.memory,
            largest=tuple(program.largest(LARGEST)),
            collectives=program.collectives(),
            copies=tuple((copy.layer, copy.bytes) for copy in program.copies(LARGE_COPY)),
            bytes_per_clip=moved / clips,
            flops_per_clip=flops,
            estimated_cycles_per_clip=cycles / clips if cycles else None,
            seconds_at_best=max(clips * flops / chip.flops, moved / chip.bandwidth),
            estimated_seconds=cycles / chip.hertz if cycles else None,
        )


def _on(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def _prepare_tpu() -> None:
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(f"compiling for a TPU needs its compiler, the package libtpu of jax[tpu]: {_INSTALL}")
    # Without these libtpu looks for the machine's own TPU, and asks the cloud's metadata server about it.
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v4-8"}


def _prepare_gpu() -> None:
    if importlib.util.find_spec("jax_cuda12_plugin") is None or (tools := _cuda_tools()) is None:
        raise UserError(
            "compiling for a GPU needs XLA's part for it and CUDA's assembler, the packages jax-cuda12-plugin and "
            f"nvidia-cuda-nvcc-cu12: {_INSTALL}"
        )
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # There need be no CUDA here.
    # Nothing can be timed, so that nothing can be tuned.
    flags = f"--xla_gpu_autotune_level=0 --xla_gpu_cuda_data_dir={tools}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()


def _cuda_tools() -> str | None:
    spec = importlib.util.find_spec("nvidia")
    folders = [os.path.join(path, "cuda_nvcc") for path in (spec.submodule_search_locations if spec else ())]
    return next((folder for folder in folders if os.path.isdir(folder)), None)


def _target_text(slice_: Slice) -> str:
    return (
        f"gpu_device_info {{\n{slice_.chip.target}\n}}\n"
        f'platform_name: "CUDA"\ndnn_version_info {{ major: 9 minor: 8 }}\ndevice_description_str: "{slice_.chip.name}"'
    )
