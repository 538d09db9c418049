"""What a config describes, before it costs anything: parameters, tokens, operations and memory.

python -m cmav.describe --config=configs/avs_cma.py
python -m cmav.describe --config=configs/avs_cma.py --device=v4-32
python -m cmav.describe --config=configs/avs_cma.py --device=4xh100 --json

Shapes are traced and nothing is computed, so it takes seconds for a network of any size, needs no data and no
accelerator. `--json` prints one object: `parameters`, and `phases`, each with `frame_rate` (Hz), `batch_size`,
`video_tokens`, `audio_tokens`, `gflops_per_clip` (forward pass) and `activation_bytes_per_clip`.

With `--device` each phase's training step, and the pass of each evaluator, is compiled for a TPU slice or for GPUs by
their own compiler, which takes minutes for a large network, and needs no such chip: pip install 'cmav[aot]'. It says
whether they fit into memory, what takes most of it, what the devices tell each other, and how fast a step is at best.
`--json` then has this beside the rest, in `phases` and in `evaluators`: `fits`, `peak_bytes`, `temp_bytes_per_device`,
`estimated_cycles_per_clip` and all that `cmav.training.ahead.Compiled` lists.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from cmav import cli, tables
from cmav.tasks import make_task
from cmav.training import chips
from cmav.training.ahead import Compiled, Compiler
from cmav.training.chips import Slice
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
network's operations at the chip's peak, and of all that the program moves at its memory's full speed. Estimated: by the
TPU compiler's own count of cycles, which no chip has confirmed; of a GPU's program nobody estimates them, and cuDNN's
workspace is not in its memory. Time for input, and for what the devices tell each other, is in none of them."""


def _print_compiled(compiled: Sequence[Compiled], device: Slice) -> None:
    rows = [
        (
            *(each.name, f"{each.batch_size}", "yes" if each.fits else "NO"),
            *(_gigabytes(each.peak_bytes), _gigabytes(each.memory_bytes)),
            *(_milliseconds(each.seconds_at_best), _milliseconds(each.estimated_seconds)),
            f"{each.estimated_cycles_per_clip / 1e6:.1f}" if each.estimated_cycles_per_clip else "–",
            f"{each.compile_seconds:.0f}",
        )
        for each in compiled
    ]
    headings = (
        *("", "clips", "fits", "GB needed", "GB there"),
        *("ms at best", "ms estimated", "M cycles/clip", "s to compile"),
    )
    print(f"\nFor {device.devices} x {device.chip.name} ({device.name})\n{tables.plain(headings, rows)}\n{_MEANING}")
    for each in compiled:
        facts = [f"{layer}: {_gigabytes(size)} GB" for layer, size in each.largest]
        print(f"\n{each.name}\n  largest arrays: {'; '.join(facts) or each.refusal}")
        if each.collectives:
            told = [f"{count} {kind} of {size / 1e6:.1f} MB" for kind, (count, size) in each.collectives.items()]
            print(f"  between devices, each step: {', '.join(told)}")
        if each.copies:
            told = [f"{layer}: {_gigabytes(size)} GB" for layer, size in each.copies]
            print(f"  copied only to change the layout: {'; '.join(told)}")


def _gigabytes(count: int | None) -> str:
    return "–" if count is None else f"{count / 1e9:.1f}"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1e3 * seconds:.1f}"


def main(config: ConfigDict, as_json: bool, device: str | None) -> None:
    jax.config.update("jax_platforms", "cpu")  # So that an accelerator at work is left alone.
    wanted = chips.find(device) if device else None
    compiler = Compiler(wanted) if wanted else None  # Before JAX looks for what there is.
    params = jax.eval_shape(make_task(config, config.phases[0]).init, jax.random.key(0))["params"]
    phases = [describe_phase(config, phase) for phase in config.phases]
    compiled, evaluators = [], []
    if compiler:
        compiled, evaluators = list(compiler.phases(config)), list(compiler.evaluators(config))
    if as_json:
        more = [dataclasses.asdict(each) for each in compiled] or [{}] * len(phases)
        summary: dict[str, Any] = {
            "parameters": count_parameters(params),
            "phases": [dataclasses.asdict(phase) | each for phase, each in zip(phases, more, strict=True)],
        }
        if wanted:
            summary |= {"device": wanted.name, "evaluators": [dataclasses.asdict(each) for each in evaluators]}
        print(json.dumps(summary, indent=2))
        return
    _print_tables(params, phases)
    if compiler and wanted:
        _print_compiled([*compiled, *evaluators], wanted)
        for each, phase in zip(compiled, config.phases, strict=True):
            if not each.fits:
                fitting = compiler.most_that_fit(config, phase)
                most = (
                    f"{fitting.batch_size} clips do, in {_gigabytes(fitting.peak_bytes)} GB"
                    if fitting
                    else "no batch does"
                )
                print(f"\n{each.name}: {each.batch_size} clips do not fit; {most}.")


if __name__ == "__main__":
    _CONFIG = cli.define_config_flag()
    _JSON = flags.DEFINE_bool("json", False, "Print one JSON object instead of tables.")
    _DEVICE = flags.DEFINE_string(
        "device", None, "Also compile for this TPU slice, e.g. v4-32 or v5e-8, or these GPUs, e.g. h100 or 4xh100."
    )
    cli.run(lambda: main(cli.read_config(_CONFIG), _JSON.value, _DEVICE.value))
