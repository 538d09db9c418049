"""What a config describes, before it costs anything: parameters, tokens, operations and memory.

python -m cmav.describe --config=configs/avs_cma.py
python -m cmav.describe --config=configs/avs_cma.py --device=v4-32
python -m cmav.describe --config=configs/avs_cma.py --device=4xh100 --json

Shapes are traced and nothing is computed, so it takes seconds for a network of any size, needs no data and no
accelerator. `--json` prints one object: `parameters`, and `phases`, each with `frame_rate` (Hz), `batch_size`,
`video_tokens`, `audio_tokens`, `gflops_per_clip` (forward pass) and `activation_bytes_per_clip`.

With `--device` each phase's training step, and the network's plain pass over a batch of each evaluator, is compiled for
a TPU slice or for GPUs by their own compiler, which takes minutes for a large network, and needs no such chip: pip
install '.[aot]'. It says whether they fit into memory, what takes most of it, what would fit where they do not, what
the devices tell each other, and how fast a step is at best. `--json` then has this beside the rest, in `phases` and in
`evaluators`: `fits`, `peak_bytes`, `temp_bytes_per_device`, `estimated_cycles_per_clip`, all else that
`cmav.training.ahead.Compiled` lists, and in a phase that does not fit `what_fits`.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from cmav import cli, tables
from cmav.tasks import make_task
from cmav.training import chips
from cmav.training.ahead import Compiled, Compiler
from cmav.training.costs import PhaseCost, count_parameters, describe_phase, parameter_rows


def _print_tables(params: Mapping[str, Any], phases: list[PhaseCost]) -> None:
    rows = [("  " * nesting + name, f"{count:,}") for nesting, name, count in parameter_rows(params)]
    print(tables.plain(("module", "parameters"), [*rows, ("total", f"{count_parameters(params):,}")]))
    headings = (
        *("frame rate", "batch size", "video tokens", "audio tokens"),
        *("forward GFLOPs/clip", "activations MB/clip"),
    )
    rows = [
        (
            *(f"{phase.frame_rate:g} Hz", f"{phase.batch_size}", f"{phase.video_tokens}", f"{phase.audio_tokens}"),
            *(f"{phase.gflops_per_clip:.1f}", f"{phase.activation_bytes_per_clip / 1e6:.1f}"),
        )
        for phase in phases
    ]
    print("\nPhases (a clip of synchronization is its frames with two audios)\n" + tables.plain(headings, rows))


_MEANING = """

Memory is what the compiler has planned for one device: weights, batch and what is computed. At best: the longer of the
network's operations at the chip's peak in bfloat16, and of all that the program moves at its memory's full speed, as if
no cache held anything. Estimated: the TPU compiler's own count of cycles, which no chip has confirmed. Of a GPU's
program nobody estimates them, and cuDNN's workspace is not in its memory. The time for input, and for what the devices
tell each other, is in none of these. A TPU v4 is compiled for core by core."""


def _print_compiled(each: Compiled) -> None:
    print(f"\n{each.name}, {each.batch_size} clips: {'fits' if each.fits else 'DOES NOT FIT'}", flush=True)
    memory = f"{_gigabytes(each.peak_bytes)} of {_gigabytes(each.memory_bytes)} GB"
    facts = {
        "memory of a device": f"{memory}{f': {each.refusal}' if each.refusal else ''}",
        "largest arrays": "; ".join(f"{layer}: {_gigabytes(size)} GB" for layer, size in each.largest),
        "a step at best": _milliseconds(each.seconds_at_best),
        "a step by estimated cycles": _milliseconds(each.estimated_seconds),
        "cycles a clip": f"{(each.estimated_cycles_per_clip or 0) / 1e6:.1f} M" if each.estimated_seconds else "",
        "between devices": ", ".join(
            f"{count} {kind} of {size / 1e6:.1f} MB" for kind, (count, size) in each.collectives.items()
        ),
        "copied only to change the layout": "; ".join(f"{layer}: {_gigabytes(size)} GB" for layer, size in each.copies),
        "compiled in": f"{each.compile_seconds:.0f} s",
    }
    print("\n".join(f"  {name}: {fact}" for name, fact in facts.items() if fact), flush=True)


def _gigabytes(count: int | None) -> str:
    return "?" if count is None else f"{count / 1e9:.3g}"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3g} ms"


def _compile(compiler: Compiler, config: ConfigDict, show: Callable[[Compiled], None]) -> dict[str, Any]:
    """Compiles all, and shows each as soon as it is known. Returns what `--json` has of it."""
    phases, evaluators = [], []
    for number, compiled in enumerate(compiler.phases(config)):
        show(compiled)
        phases.append(dataclasses.asdict(compiled))
        if not compiled.fits:
            fitting = compiler.what_fits(config, config.phases[number])
            if fitting:
                show(fitting)
            phases[-1]["what_fits"] = fitting and dataclasses.asdict(fitting)
    for compiled in compiler.evaluators(config):
        show(compiled)
        evaluators.append(dataclasses.asdict(compiled))
    return {"phases": phases, "evaluators": evaluators}


def main(config: ConfigDict, as_json: bool, device: str | None) -> None:
    jax.config.update("jax_platforms", "cpu")  # So that an accelerator at work is left alone.
    wanted = None if device is None else chips.find(device)
    compiler = Compiler(wanted) if wanted else None  # Before JAX looks for what there is.
    params = jax.eval_shape(make_task(config, config.phases[0]).init, jax.random.key(0))["params"]
    phases = [describe_phase(config, phase) for phase in config.phases]
    summary: dict[str, Any] = {"parameters": count_parameters(params), "phases": list(map(dataclasses.asdict, phases))}
    if not as_json:
        _print_tables(params, phases)
    if compiler and wanted:
        if not as_json:
            print(f"\nFor {wanted.devices} x {wanted.chip.name} ({wanted.name}){_MEANING}", flush=True)
        compiled = _compile(compiler, config, (lambda _: None) if as_json else _print_compiled)
        more = compiled.pop("phases")
        summary["phases"] = [phase | also for phase, also in zip(summary["phases"], more, strict=True)]
        summary |= {"device": wanted.name, **compiled}
    if as_json:
        print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    _CONFIG = cli.define_config_flag()
    _JSON = flags.DEFINE_bool("json", False, "Print one JSON object instead of tables.")
    _DEVICE = flags.DEFINE_string(
        "device", None, "Also compile for this TPU slice, e.g. v4-32 or v5e-8, or these GPUs, e.g. h100 or 4xh100."
    )
    cli.run(lambda: main(cli.read_config(_CONFIG), _JSON.value, _DEVICE.value))
