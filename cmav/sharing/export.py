"""Writes a network as a folder that can be taken along. `python -m cmav.export` is the command."""

import json

import jax
from absl import logging
from etils import epath

from cmav.data import storage
from cmav.errors import UserError
from cmav.offsets import calibration
from cmav.reporting.files import read
from cmav.sharing import card, functions
from cmav.training import frozen, pretrained, run_config, weights

ITEMS = ("params", "model_state")
PROGRAMS = "stablehlo"
SUMMARY = "summary.json"


def export(checkpoint: str, out: str, *, programs: bool = True) -> list[str]:
    """Exports the network of a checkpoint.

    Args:
      checkpoint: as `cmav.training.frozen.load` takes it.
      out: the folder, which must be new or empty; local or gs://.
      programs: whether to write StableHLO as well. Of a control whose pictures are covered there is none: what a
        program is given could be covered only before it.

    Returns:
      Paths of the files that were written.

    Raises:
      UserError: where there is no such checkpoint, or the folder has something in it.
    """
    folder = epath.Path(out)
    if storage.list_folder(out):
        raise UserError(f"--out={out} has something in it already: give a new folder.")
    run, step = pretrained.resolve(checkpoint)
    config = run_config.read(run)
    if config is None:
        raise UserError(f"--checkpoint={checkpoint}: {run_config.path_of(run)} is not there, and the network unknown.")
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    items, _ = pretrained.restore(run, step, ITEMS, sharding)

    # All that may fail comes before anything is written.
    network = frozen.load_whole(checkpoint)
    known = functions.list_functions(network.task, network.variables)
    made = functions.as_programs(network.task, network.variables) if programs and not network.task.cover else {}
    summary = read(epath.Path(run) / SUMMARY, dict) or {}
    name = folder.name if "://" in out else folder.resolve().name
    described = card.write(name, config, step, summary, known, has_programs=bool(made))

    folder.mkdir(parents=True, exist_ok=True)
    storage.write_text(folder / "README.md", described)
    run_config.write(config, folder, 0)
    weights.write(folder, items, {"step": step, "task": config.task})
    written = [run_config.NAME, weights.NAME]
    fitted = calibration.Calibration.load(epath.Path(run))
    if fitted and fitted.fitted_on["step"] == step:
        written.append(fitted.save(folder).name)
    elif fitted:
        logging.warning("%s is calibrated at step %s, not %d: left out", run, fitted.fitted_on["step"], step)

    if summary.get("steps") == step:
        storage.write_text(folder / SUMMARY, json.dumps(summary, indent=2))
        written.append(SUMMARY)
    if made:
        (folder / PROGRAMS).mkdir()
    for name, program in made.items():
        path = folder / PROGRAMS / f"{name}.bin"
        path.write_bytes(program.serialize())
        written.append(f"{PROGRAMS}/{path.name}")
    return [str(folder / name) for name in ("README.md", *written)]
