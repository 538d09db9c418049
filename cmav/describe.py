"""What a config describes, before it costs anything: parameters, tokens, operations and memory.

python -m cmav.describe --config=configs/avs_cma.py
python -m cmav.describe --config=configs/avs_cma.py --json

Shapes are traced and nothing is computed, so it takes seconds for a network of any size, needs no data and no
accelerator. `--json` prints one object: `parameters`, and `phases`, each with `frame_rate` (Hz), `batch_size`,
`video_tokens`, `audio_tokens`, `gflops_per_clip` (forward pass) and `activation_bytes_per_clip`.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from cmav import cli, tables
from cmav.tasks import make_task
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


def main(config: ConfigDict, as_json: bool) -> None:
    jax.config.update("jax_platforms", "cpu")  # So that an accelerator at work is left alone.
    params = jax.eval_shape(make_task(config, config.phases[0]).init, jax.random.key(0))["params"]
    phases = [describe_phase(config, phase) for phase in config.phases]
    if as_json:
        summary = {"parameters": count_parameters(params), "phases": [dataclasses.asdict(phase) for phase in phases]}
        print(json.dumps(summary, indent=2))
    else:
        _print_tables(params, phases)


if __name__ == "__main__":
    _CONFIG = cli.define_config_flag()
    _JSON = flags.DEFINE_bool("json", False, "Print one JSON object instead of tables.")
    cli.run(lambda: main(cli.read_config(_CONFIG), _JSON.value))
