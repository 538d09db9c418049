"""What every command of cmav shares: the config flag, the work folder, and errors that are for people."""

import errno
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from cmav import presets
from cmav.errors import Preempted, UserError

# What commands say of their flag of this name.
CHECKPOINT = (
    "Folder of a run, one of its folders checkpoints/<step>, folder of an exported network, name of one that comes "
    "with cmav, such as demo, or newest."
)


class _ConfigParser(flags.ArgumentParser):
    """Takes what `presets.resolve` knows, in the place of files alone."""

    def __init__(self, of_files: flags.ArgumentParser) -> None:
        self._of_files = of_files

    def parse(self, argument: str) -> ConfigDict:
        return self._of_files.parse(presets.resolve(argument))

    def flag_type(self) -> str:
        return self._of_files.flag_type()


def define_flags(default_config: str | None = None) -> flags.FlagHolder:
    """Defines --config, --workdir and --distributed; returns the config's holder (`.value` once flags are parsed)."""
    flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, TensorBoard. Default: runs/<config name>.")
    flags.DEFINE_enum(
        "distributed",
        "auto",
        ["auto", "on", "off"],
        "Several processes: 'auto' is on where the environment names several (TPU pod, Slurm, Open MPI).",
    )
    return define_config_flag(default_config)


def define_config_flag(default: str | None = None) -> flags.FlagHolder:
    holder = config_flags.DEFINE_config_file(
        "config",
        None,
        "A config that comes with cmav, by its name, a config file, or the folder of a run; as the first argument also "
        "without --config=. Any key can be overridden: --config.optim.learning_rate=0.003 "
        "--config.phases[0].steps=100. All keys and what they mean: cmav/config.py.",
    )
    flags.FLAGS["config"].parser = _ConfigParser(flags.FLAGS["config"].parser)
    if not _has_first_argument():  # It is parsed at once, and what the command line sets would be of its keys.
        flags.set_default(holder, default)
    return holder


def _has_first_argument() -> bool:
    """Whether something stands before all flags."""
    return bool(sys.argv[1:]) and not sys.argv[1].startswith("-")


def read_config(holder: flags.FlagHolder) -> ConfigDict:
    """Returns the parsed config.

    Raises:
      UserError: where no --config was given, or the file cannot be read.
    """
    config = holder.value
    try:
        _ = config and config.task  # In the place of a file that could not be read is an object that raises when used.
    except OSError as error:
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        raise UserError(
            f"--config={path} cannot be read: {str(error).splitlines()[-1].strip()}. Give the path of a file, the "
            f"folder of a run, or one of {', '.join(presets.names())}."
        ) from error
    if config is None:
        raise UserError(
            "no --config given. Examples:\n"
            "  --config=demo      a small network on synthesized videos, minutes on two cores\n"
            "  --config=avs_cma   the paper's network\n"
            f"All: {', '.join(presets.names())}; or the path of a file, or the folder of a run."
        )
    return config


def overrides() -> dict[str, Any]:
    """What the command line sets of the config, by path: {"optim.learning_rate": 0.003}."""
    return config_flags.get_override_values(flags.FLAGS["config"])


def workdir() -> str:
    """--workdir, or the run whose config it is, or `runs/<name of the config file>`."""
    if flags.FLAGS.workdir:
        return flags.FLAGS.workdir
    path = config_flags.get_config_filename(flags.FLAGS["config"])
    if presets.is_run(path):
        return path.rstrip("/")
    name = os.path.splitext(os.path.basename(path))[0]
    return os.path.join("runs", name)


def run(main: Callable[..., int | None], *, takes_arguments: bool = False) -> None:
    """Runs a command: parses flags, calls `main()`. A `UserError` is printed as it is, and the exit status is 1.

    It is 143 where the job was asked to stop. In a job of several processes, whatever is raised in one ends them all.

    With `takes_arguments`, what stands beside the flags is no mistake, but what `main` is called with, as a list. Of
    other commands that have the flag --config, a first argument without a flag is the config.
    """
    if not takes_arguments and "config" in flags.FLAGS and _has_first_argument():
        sys.argv[1] = f"--config={sys.argv[1]}"
    # TensorFlow only reads data here. Its greetings, of which oneDNN's cannot be had quiet otherwise, would bury ours.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().addFilter(_only_warnings_from_libraries)
    for name in ("config", "workdir", "distributed"):
        if name in flags.FLAGS:  # --help shows the flags of the command; these are defined here.
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    app.run(
        lambda rest: _exit_on_user_error(functools.partial(main, rest[1:]) if takes_arguments else main),
        flags_parser=functools.partial(_parse_flags, takes_arguments=takes_arguments),
    )


def check_alone() -> None:
    """For a command that is made for one process.

    Raises:
      UserError: where it was started several times, by Slurm or Open MPI: all would write the same files.
    """
    for variable in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        if int(os.environ.get(variable, "1")) > 1:
            raise UserError(
                f"this command runs in one process, and {variable}={os.environ[variable]} says that it was started in "
                "several, which would write the same files: start it once (srun --ntasks=1)."
            )


def _exit_on_user_error(main: Callable[[], int | None]) -> int | None:
    try:
        return main()
    except Preempted as stop:
        logging.info("%s", stop)
        return 128 + signal.SIGTERM  # As a process that SIGTERM ended, so that a scheduler starts the job again.
    except Exception as error:
        logging.flush()
        message = "\n".join([str(error), *getattr(error, "__notes__", ())])
        is_foreseen = isinstance(error, UserError)
        if (full := _full_disk(error)) is not None:
            message, is_foreseen = f"{full}. What is saved is whole: make room, and the same command goes on.", True
        if is_foreseen:
            print(f"\nError: {message}", file=sys.stderr)
        if "jax" in sys.modules:
            from cmav import processes  # Only here, for commands without JAX start sooner.

            if processes.are_several():
                if not is_foreseen:
                    traceback.print_exc()
                processes.fail(message if is_foreseen else f"{type(error).__name__}: {message}")
        if not is_foreseen:
            raise
        return 1


def _full_disk(error: BaseException | None) -> str | None:
    """What was said of a full disk, by the operating system or by whatever library met it; None: none is full."""
    while error is not None:
        for line in str(error).splitlines():
            for words in map(os.strerror, (errno.ENOSPC, errno.EDQUOT)):
                before, found, after = line.strip().partition(words)
                if found:  # What libraries write around it can be as long as a page.
                    return f"{before[-200:]}{words}{after[:100]}"
        error = error.__cause__ or error.__context__
    return None


def _parse_flags(argv: list[str], *, takes_arguments: bool) -> list[str]:
    """A config file that is not there, or a key that is not in it, is a mistake to explain, not a traceback."""
    try:
        rest = flags.FLAGS(argv)
    except (AttributeError, KeyError, TypeError, IndexError, FileNotFoundError) as error:
        # ConfigDict names the nearest key in its own message, quoted twice.
        message = str(error).replace("\\n", "\n").replace("\\'", "'").strip("'\"")
        _refuse(f"--config: {message}\nAll keys and what they mean: cmav/config.py.")
    except flags.Error as error:
        _refuse(f"{error}\nAll flags: --help.")
    except UserError as error:  # of the run whose config it is
        _refuse(str(error))
    if len(rest) > 1 and not takes_arguments:
        first = ", and a config without --config= comes before them" if "config" in flags.FLAGS else ""
        _refuse(f"unexpected argument {rest[1]!r}: options are written --name=value{first}.")
    return rest


def _refuse(message: str) -> None:
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(2)


def _only_warnings_from_libraries(record) -> bool:
    """Orbax and others log every step of theirs at INFO, which buries the progress that one looks for.

    And every error with its traceback, thread by thread, before they raise it: it is told where it ends the command.
    """
    chatty = any(
        f"{os.sep}{name}{os.sep}" in record.pathname for name in ("orbax", "jax", "tensorboard", "tensorflow_datasets")
    )
    is_warning = record.levelno >= logging.converter.absl_to_standard(logging.WARNING) and not record.exc_info
    return not chatty or is_warning
