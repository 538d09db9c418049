"""Chips that a training step can be compiled for without having one, and what they can do at best.

Numbers are the makers': dense bfloat16 operations, and memory's size and bandwidth, of what is compiled for as one
device.
"""

import dataclasses
import re
from typing import Any

from cmav.errors import UserError

GIB = 2**30
# JAX takes so much of a GPU unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
SHARE_OF_A_GPU = 0.75


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device.

    Attributes:
      platform: "tpu" or "cuda", as JAX names it.
      name: as people do.
      flops: bfloat16 operations a second.
      bandwidth: of its memory, bytes a second.
      memory: bytes that a program can have.
      hertz: of its clock, which the compiler's estimated cycles are of; 0: it estimates none.
      target: what XLA is told of a GPU, as `name: value` lines of its `GpuDeviceInfoProto`.
    """

    platform: str
    name: str
    flops: float
    bandwidth: float
    memory: int
    hertz: float = 0.0
    target: str = ""


@dataclasses.dataclass(frozen=True)
class Slice:
    """Some devices of one kind, joined.

    Attributes:
      name: as it was asked for.
      chip: each of them.
      devices: how many.
      topology: in the words of JAX's topologies.
    """

    name: str
    chip: Chip
    devices: int
    topology: str


def _gpu(name: str, memory: int, bandwidth: float, flops: float, **target: Any) -> Chip:
    lines = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 49152,
        "threads_per_core_limit": 2048,
        "block_dim_limit_x": 2147483647,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "memory_bandwidth": int(bandwidth),
        "device_memory_size": memory,
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
        **target,
    }
    text = "\n".join(f"{key}: {value}" for key, value in lines.items())
    return Chip("cuda", name, flops, bandwidth, int(SHARE_OF_A_GPU * memory), target=text)


_HOPPER = dict(
    shared_memory_per_core=233472,
    shared_memory_per_block_optin=232448,
    core_count=132,
    fpus_per_core=128,
    l2_cache_size=52428800,
    clock_rate_ghz=1.98,
    cuda_compute_capability="{ major: 9 minor: 0 }",
)
GPUS = {
    "a100": _gpu(
        *("NVIDIA A100-SXM4-80GB", 85_100_068_864, 2.039e12, 312e12),
        shared_memory_per_core=167936,
        shared_memory_per_block_optin=166912,
        core_count=108,
        fpus_per_core=64,
        l2_cache_size=41943040,
        clock_rate_ghz=1.41,
        cuda_compute_capability="{ major: 8 minor: 0 }",
    ),
    "h100": _gpu("NVIDIA H100 80GB HBM3", 84_942_979_072, 3.352e12, 989e12, **_HOPPER),
    "h200": _gpu("NVIDIA H200 141GB HBM3e", 151_397_597_184, 4.8e12, 989e12, **_HOPPER),
}

# A v4 or v5p chip has two cores, and the numbers in the names of slices count cores; of the others chips. The compiler
# joins the cores of a v5p to one device, and has those of a v4 apart, each with half of the chip. JAX on a v4 joins
# them as well: there a device has the clips of both, and twice of everything.
TPUS = {
    "v4": Chip("tpu", "TPU v4 core", 137.5e12, 0.614e12, 16 * GIB, 1.05e9),
    "v5e": Chip("tpu", "TPU v5e", 197e12, 0.819e12, int(15.75 * GIB), 1.5e9),
    "v5p": Chip("tpu", "TPU v5p", 459e12, 2.765e12, 95 * GIB, 1.75e9),
    "v6e": Chip("tpu", "TPU v6e", 918e12, 1.64e12, int(31.25 * GIB), 1.75e9),
}
_FLAT = {4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_CUBES = {8: "2x2x1", 16: "2x2x2", 32: "2x2x4", 64: "2x4x4", 128: "4x4x4", 256: "4x4x8", 512: "4x8x8"}
TOPOLOGIES = {"v4": _CUBES, "v5p": _CUBES, "v5e": _FLAT, "v6e": _FLAT}
NAMED_BY = {"v5p": 2}  # what the number in a name counts of each device; 1 where it is not here


def find(name: str) -> Slice:
    """A slice by its name: "v4-32", "v5e-8", "h100" or "4xh100".

    Raises:
      UserError: where none is known by it.
    """
    if (match := re.fullmatch(r"(v\w+)-(\d+)", name)) and match[1] in TPUS:
        if topology := TOPOLOGIES[match[1]].get(int(match[2])):
            devices = int(match[2]) // NAMED_BY.get(match[1], 1)
            return Slice(name, TPUS[match[1]], devices, f"{match[1]}:{topology}")
        known = ", ".join(f"{match[1]}-{count}" for count in TOPOLOGIES[match[1]])
        raise UserError(f"--device={name}: of TPU {match[1]} there are {known}.")
    if (match := re.fullmatch(r"(?:([1-9]\d?)x)?(\w+)", name)) and match[2] in GPUS:
        devices = int(match[1] or 1)
        return Slice(name, GPUS[match[2]], devices, f"1x1x{devices}")
    slices, gpus = (", ".join(names) for names in ((f"{chip}-8" for chip in TPUS), (*GPUS, "4xh100")))
    raise UserError(f"--device={name} is not known: name a TPU slice, such as {slices}, or GPUs, such as {gpus}.")
