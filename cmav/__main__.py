"""`cmav COMMAND …`: each command is the module of that name, `python -m cmav.COMMAND`."""

# Nothing heavy is imported here, so that help comes at once.

import difflib
import importlib.metadata
import runpy
import sys

from cmav import completion

# In the order of one's way from videos to results.
COMMANDS = {
    "synthesize": ("cmav.world.synthesize_videos", "makes videos of a world whose truth is known"),
    "prep": ("cmav.prep.build_tfrecords", "cuts videos into TFRecord shards"),
    "describe": ("cmav.describe", "what a config will cost: parameters, memory, whether a chip is large enough"),
    "train": ("cmav.main", "pretrains a network on shards, without labels"),
    "evaluate": ("cmav.evaluate", "evaluates a run on held-out videos"),
    "finetune": ("cmav.finetune", "fine-tunes a pretrained network for action recognition"),
    "localize": ("cmav.localize", "shows where in videos the sound comes from"),
    "app": ("cmav.app", "a page in the browser for all that a network says of a video"),
    "sync": ("cmav.sync", "tells by how much the sound of videos is off, and corrects it"),
    "embed": ("cmav.embed", "writes features of videos"),
    "report": ("cmav.report", "gathers a run in one page"),
    "export": ("cmav.export", "writes a network as a folder to take along, with its model card"),
    "experiment": ("cmav.experiments.run", "runs a comparison of configs over seeds, and writes its table"),
}
_USUAL = """\
  cmav prep --videos my_videos --out data --validation_share 0.1
  cmav train avs_cma
  cmav evaluate runs/avs_cma
  cmav localize my_video.mp4 --checkpoint runs/avs_cma --out localized"""


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items())
    return (
        "Self-supervised audio-visual learning.\n\nusage: cmav COMMAND …\n\n"
        f"{commands}\n\n`cmav COMMAND --help` explains each, and `cmav completion --help` how a shell completes them. "
        f"From videos to results:\n\n{_USUAL}\n"
    )


def main() -> int | None:
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"cmav {importlib.metadata.version('cmav')}")
        return 0
    if name == "completion":
        return completion.main(rest, COMMANDS)
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"Did you mean this?\n  cmav {near[0]}" if near else "All commands:\n  cmav --help"
        print(f"Error: there is no command {name!r}. {meant}", file=sys.stderr)
        return 2
    sys.argv = [name, *rest]
    runpy.run_module(COMMANDS[name][0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.exit(main())
