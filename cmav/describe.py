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

from cmav import cli
from cmav.tasks import make_task
from cmav.training.costs import PhaseCost, count_parameters, describe_phase, parameter_rows


def _print_tables(params: Mapping[str, Any], phases: list[PhaseCost]) -> None:
    rows = [("  " * nesting + name, count) for nesting, name, count in parameter_rows(params)]
    rows.append(("total", count_parameters(params)))
    width = max(len(name) for name, _ in rows)
    print("Parameters")
    for name, count in rows:
        print(f"  {name:<{width}}  {count:>12,}")
    print("\nPhases (a clip of synchronization is its frames with two audios)")
    print("  frame rate  batch size  video tokens  audio tokens  forward GFLOPs/clip  activations MB/clip")
    for phase in phases:
        print(
            f"  {phase.frame_rate:>7g} Hz  {phase.batch_size:>10}  {phase.video_tokens:>12}  {phase.audio_tokens:>12}"
            f"  {phase.gflops_per_clip:>19.1f}  {phase.activation_bytes_per_clip / 1e6:>19.1f}"
        )


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
