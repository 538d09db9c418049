"""Checkpoints: saved asynchronously, verified when restored. The only file that imports Orbax.

A checkpoint is a folder `checkpoints/<step>` of separate items: `params`, `model_state` (BatchNorm's statistics),
`opt_state` and `metadata` (JSON). The metadata carries a fingerprint of the arrays, so that damage which the file
format does not notice is found, and the step before is used.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath
from orbax.checkpoint import utils
from orbax.checkpoint import v1 as ocp

from cmav.data.storage import DELAYS, StorageError, copy_folder, tells_of_storage, words
from cmav.errors import UserError
from cmav.trees import flatten

T = TypeVar("T")

ARRAY_ITEMS = ("params", "model_state", "opt_state")


def list_whole(workdir: str) -> list[epath.Path]:
    """Folders of a run's whole checkpoints, oldest first; the name of each is its step. Only lists: opens nothing.

    What is whole is Orbax's to say: on a file system a folder gets its name when all is written, in a bucket it has a
    file `commit_success.txt` by then.
    """
    folders = utils.checkpoint_steps_paths(_folder(workdir))
    return sorted((folder for folder in folders if folder.name.isdecimal()), key=lambda folder: int(folder.name))


def _folder(workdir: str) -> str:
    return os.path.join(workdir if "://" in workdir else os.path.abspath(workdir), "checkpoints")


class DamagedError(Exception):
    """What was read is not what was written."""


class Checkpoints:
    """The checkpoints of one run. All methods are called by all processes together.

    Args:
      workdir: folder of the run; checkpoints lie in `<workdir>/checkpoints`.
      keep: how many of the newest to keep; 0 keeps all. Only matters to `save`.
    """

    def __init__(self, workdir: str, keep: int = 0):
        policies = ocp.training.preservation_policies
        self._directory = self._shown = _folder(workdir)  # where they are, and where to tell that they are
        self._checkpointer = ocp.training.Checkpointer(
            self._directory,
            preservation_policy=policies.LatestN(keep) if keep else policies.PreserveAll(),
        )
        self._damaged: set[int] = set()
        self._saving: tuple[int, dict[str, Any], dict[str, Any]] | None = None  # what is under way

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, oldest first. A save that was cut off is not among them."""
        return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

    def save(self, step: int, state: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Starts to save; returns once the arrays are copied, while the writing goes on. Saves a step only once.

        Where the save before failed by an error of storage that may pass, that step is lost, and this is said.

        Args:
          step: number of the checkpoint.
          state: the items in `ARRAY_ITEMS`, each a tree of arrays.
          metadata: anything JSON can hold.
        """
        if step in self.steps() and step not in self._damaged:
            return
        if (error := self._failure()) is not None:
            logging.warning("step %d could not be saved (%s): saving step %d", self._saving[0], words(error), step)
        self._start(step, state, metadata)

    def _start(self, step: int, state: dict[str, Any], metadata: dict[str, Any]) -> None:
        self._saving = step, state, metadata
        items = {name: state[name] for name in ARRAY_ITEMS if jax.tree.leaves(state[name])}
        metadata = {**metadata, "fingerprint": _fingerprints(items)}
        self._checkpointer.save_checkpointables_async(
            step, {**items, "metadata": metadata}, force=True, overwrite=step in self._damaged
        )
        self._damaged.discard(step)

    def restore(
        self, template: dict[str, Any], step: int | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Restores the newest checkpoint that is whole, or the one of `step`.

        Args:
          template: the items wanted, each a tree of arrays or of `jax.ShapeDtypeStruct` with a sharding.
          step: restore this one; no other will do.

        Returns:
          The items, and the metadata; None where there is no checkpoint at all.

        Raises:
          UserError: where the arrays of the checkpoint are not those of the template (another network), where `step` is
            not there, or where checkpoints are there but none can be read.
        """

        def load(checkpoints: Self, candidate: int) -> tuple[dict[str, Any], dict[str, Any]]:
            checkpoints._check_shapes(candidate, template)
            return checkpoints._load(candidate, template)

        return self._first_whole(load, step)

    def restore_as_saved(
        self, names: Sequence[str], sharding: jax.sharding.Sharding, step: int | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """As `restore`, for whoever does not know what is in the checkpoint: the items of these names, whole.

        Raises:
          UserError: as `restore`, but for the shapes.
        """

        def load(checkpoints: Self, candidate: int) -> tuple[dict[str, Any], dict[str, Any]]:
            saved = checkpoints._checkpointer.checkpointables_metadata(candidate).metadata
            template = {name: saved[name] for name in names if name in saved}
            if None in template.values():
                raise ValueError("an item cannot be read")
            template = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), template
            )
            return checkpoints._load(candidate, template)

        return self._first_whole(load, step)

    def wait(self) -> None:
        """Returns once everything is written, tried again where an error of storage may pass.

        Raises:
          StorageError: where storage does not answer.
        """
        for delay in (*DELAYS, None):
            if (error := self._failure()) is None:
                return
            step, state, metadata = self._saving
            if step in self.steps():  # It is whole, and what failed came after it.
                self._saving = None
                return
            if delay is None or any(leaf.is_deleted() for leaf in jax.tree.leaves(state)):
                raise StorageError(
                    f"step {step} could not be saved in {self._directory}: storage does not answer ({words(error)}). "
                    "The same command goes on from the step that was saved before."
                ) from error
            logging.warning("step %d could not be saved: %s; trying again in %g s", step, words(error), delay)
            time.sleep(delay)
            self._start(step, state, metadata)

    def _failure(self) -> Exception | None:
        """Waits for the save under way. Returns why it failed, where that may pass.

        Of several processes each would try again by itself, while the others have gone on: there it ends the job.
        """
        if self._saving is None:
            return None
        try:
            self._checkpointer.wait()
        except Exception as error:
            if jax.process_count() > 1 or not tells_of_storage(error):
                raise
            return error
        self._saving = None
        return None

    def close(self) -> None:
        """Waits for what is being written, then lets go."""
        try:
            self.wait()
        finally:
            self._checkpointer.close()

    def _first_whole(self, load: Callable[[Self, int], T], step: int | None) -> T | None:
        """Loads the newest checkpoint that is whole, or the one of `step`.

        Orbax hides what storage said. So what cannot be loaded is copied first, with patience: where the copy cannot be
        loaded either, the bytes are wrong and not the reading of them. Of several processes each would do so alone,
        while the others have gone on; there, what fails once is damaged.

        Args:
          load: loads a step from checkpoints: these, or the copy of one.
          step: None: any will do.
        """
        steps = self.steps()
        if step is not None and step not in steps:
            raise UserError(f"no checkpoint of step {step} in {self._directory}; there are: {steps or 'none'}.")
        candidates = steps[::-1] if step is None else [step]
        for candidate in candidates:
            try:
                return load(self, candidate)
            except UserError:
                raise
            except Exception as error:  # Whatever a damaged file makes libraries raise: the step before may be whole.
                reason = error
            if not isinstance(reason, DamagedError) and jax.process_count() == 1:
                logging.warning("checkpoint %d cannot be read: %s; trying a copy", candidate, _first_line(reason))
                with self._copied(candidate) as copy:
                    try:
                        return load(copy, candidate)
                    except UserError:
                        raise
                    except Exception as error:
                        reason = error
            self._damaged.add(candidate)
            logging.warning("checkpoint %d in %s is damaged: %s", candidate, self._directory, _first_line(reason))
        if candidates:
            raise UserError(
                f"none of the checkpoints {candidates} in {self._directory} can be read. "
                "Move the folder away to start afresh, or bring back a copy of it."
            )
        return None

    @contextlib.contextmanager
    def _copied(self, step: int) -> Iterator[Self]:
        """A local copy of one checkpoint, for a while.

        Raises:
          StorageError: where storage does not answer.
          tf.errors.ResourceExhaustedError: where the disk of temporary files is full.
        """
        with tempfile.TemporaryDirectory(prefix="cmav-checkpoint-") as workdir:
            copy_folder(f"{self._directory}/{step}", f"{_folder(workdir)}/{step}")
            with contextlib.closing(type(self)(workdir)) as copy:
                copy._shown = self._directory
                yield copy

    def _load(self, step: int, template: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        wanted = {name: tree for name, tree in template.items() if jax.tree.leaves(tree)}
        loaded = self._checkpointer.load_checkpointables(step, {**jax.tree.map(_abstract, wanted), "metadata": None})
        metadata = loaded.pop("metadata")
        for name, found in _fingerprints(loaded).items():
            if found != metadata["fingerprint"][name]:
                raise DamagedError(f"the fingerprint of {name} does not hold")
        return {**template, **loaded}, metadata

    def _check_shapes(self, step: int, template: dict[str, Any]) -> None:
        """Tells a checkpoint of another network from a damaged one."""
        try:
            saved = self._checkpointer.checkpointables_metadata(step).metadata
        except Exception as error:  # As in `restore`; `_load` meets the same damage and tells of it.
            logging.warning("no description of checkpoint %d in %s: %s", step, self._shown, _first_line(error))
            return
        differences = []
        for name in template:
            is_readable = name not in saved or saved[name] is not None
            if is_readable:
                differences += _differences(name, saved.get(name), template[name])
        if differences:
            shown = "\n  ".join(differences[:10]) + ("\n  …" if len(differences) > 10 else "")
            raise UserError(
                f"checkpoint {step} in {self._shown} is of another network or optimizer than this config:\n"
                f"  {shown}\n"
                "Use the config that it was trained with, or another --workdir."
            )


def _differences(item: str, saved: Any, wanted: Any) -> list[str]:
    def shapes(tree):
        return {f"{item}/{path}": tuple(leaf.shape) for path, leaf in flatten(tree).items() if hasattr(leaf, "shape")}

    ours, theirs = shapes(wanted), shapes(saved)
    lines = [f"{key} is not in the checkpoint" for key in sorted(ours.keys() - theirs.keys())]
    lines += [f"{key} is in the checkpoint only" for key in sorted(theirs.keys() - ours.keys())]
    for key in sorted(ours.keys() & theirs.keys()):
        if ours[key] != theirs[key]:
            lines.append(f"{key} is {theirs[key]} in the checkpoint, {ours[key]} here")
    return lines


def _abstract(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


def _fingerprints(items: dict[str, Any]) -> dict[str, int]:
    """One number an item: its arrays' bits, summed modulo 2^32; the same on any number of devices."""
    return {name: int(value) for name, value in jax.device_get(_sum_bits(items)).items()}


@jax.jit
def _sum_bits(items: dict[str, Any]) -> dict[str, jax.Array]:
    def bits(array):
        if array.dtype.itemsize < 4:
            array = array.astype(jnp.float32 if jnp.issubdtype(array.dtype, jnp.floating) else jnp.int32)
        words = jax.lax.bitcast_convert_type(array, jnp.uint32).reshape(-1)
        # Weighted by position, so that exchanged values are noticed as well.
        return jnp.sum(words * (2 * jnp.arange(words.size, dtype=jnp.uint32) + 1), dtype=jnp.uint32)

    def total(tree):
        return sum((bits(leaf) * np.uint32(2 * i + 1) for i, leaf in enumerate(jax.tree.leaves(tree))), jnp.uint32(0))

    return {name: total(tree) for name, tree in items.items()}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]
