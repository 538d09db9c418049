"""What `--config` may be: a file, the name of a config that comes with cmav, or the folder of a run.

`demo` and `configs/demo.py` are the same, in a checkout or without one.
"""

import pathlib

FOLDER = pathlib.Path(__file__).parent / "configs"
# Its `get_config` takes a run's folder.
_OF_A_RUN = pathlib.Path(__file__).parent / "training" / "run_config.py"


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


def is_run(config: str) -> bool:
    """Whether a --config is the folder of a run, local or gs://."""
    return not config.endswith(".py") and ("://" in config or pathlib.Path(config, "config.json").is_file())


def resolve(config: str) -> str:
    """The file that a --config means, as `ml_collections` takes it: with `:` and the argument of its `get_config`.

    A file or a run that is there comes first. What is none of these is returned as it is.
    """
    if pathlib.Path(config.partition(":")[0]).is_file():
        return config
    if is_run(config):
        return f"{_OF_A_RUN}:{config.rstrip('/')}"
    name = config.removeprefix("configs/").removesuffix(".py")
    return str(FOLDER / f"{name}.py") if name in names() else config
