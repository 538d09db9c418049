"""Re-reads a finished dataset: every record, and what the index and the metadata say of it."""

import collections
import concurrent.futures
import functools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
import tqdm

from cmav.data import index, layout, schema, storage

MAX_LISTED = 20  # problems to print for a split


def verify(folder: str, split: str | None, num_threads: int) -> bool:
    """Checks the finished splits of a dataset folder, or one of them, and prints what it finds.

    Checked are: checksums; that each record parses and keeps the contract (its first and last picture decode at the
    declared size, its sound is as long as its pictures); the index and the lists of official splits; that clip ids are
    unique; and the counts in TFDS's metadata. For an official split, the physical one that holds it is checked.

    Returns:
      Whether everything holds.

    Raises:
      cmav.data.index.DatasetError: where there is no finished split, or no metadata.
      cmav.data.storage.StorageError: where storage does not answer.
    """
    splits = layout.physical_splits(folder)
    if not splits:
        raise index.DatasetError(f"{folder} holds no finished split to verify; build one with --videos")
    info = _read_metadata(folder)
    size = info.features["frames"].feature.shape[0]
    everything = sorted(info.splits) == splits
    if not everything:
        print(f"metadata: lists the splits {', '.join(info.splits)}, but the folder holds {', '.join(splits)}")
    owners: dict[bytes, str] = {}
    if split and layout.physical_split(folder, split) != split:
        print(f"{split}: lies in the shards of {layout.physical_split(folder, split)}, which are checked")
        split = layout.physical_split(folder, split)
    for name in [split] if split else splits:
        found = index.SplitIndex.load(folder, name)
        members = _members(folder, name)
        problems = _count_problems(found, info.splits.get(name))
        shards = range(found.num_shards)
        with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
            check = functools.partial(_check_shard, found, members, size)
            checks = pool.map(check, shards)
            for shard_problems, clip_ids in tqdm.tqdm(checks, total=len(shards), desc=f"verify {name}", unit="shard"):
                problems += shard_problems
                for clip_id, where in clip_ids:
                    if owners.setdefault(clip_id, where) != where:
                        problems.append(f"{where}: clip_id {clip_id.decode()!r} is also that of {owners[clip_id]}")
        if problems:
            everything = False
            more = [f"... and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
            print("\n  ".join([f"{name}: {len(problems)} problems", *problems[:MAX_LISTED], *more]))
        else:
            hours = found.rows["seconds"].sum(dtype=np.float64) / 3600
            print(f"{name}: whole; {len(found):,} clips in {found.num_shards:,} shards, {hours:,.3f} hours")
    return everything


def _read_metadata(folder: str) -> tfds.core.DatasetInfo:
    try:
        return storage.patiently(lambda: tfds.builder_from_directory(folder).info, folder)
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise index.DatasetError(
            f"{folder} has no readable metadata ({error}); give the command that built it again to write it anew"
        ) from error


def _count_problems(found: index.SplitIndex, declared: tfds.core.SplitInfo | None) -> list[str]:
    if declared is None:
        return ["the metadata does not list it"]
    lengths = np.bincount(found.rows["shard"], minlength=found.num_shards).tolist()
    if list(declared.shard_lengths) != lengths:
        return [
            f"the metadata counts {declared.num_examples} clips in {declared.num_shards} shards, the index "
            f"{len(found)} in {found.num_shards}, or they are spread otherwise"
        ]
    return []


def _members(folder: str, split: str) -> dict[int, set[str]]:
    """The official splits of each record of a physical split that is in any, by the record's number."""
    members = collections.defaultdict(set)
    for name, view in layout.official_splits(folder).items():
        if view.physical == split:
            for number in view.records:
                members[number].add(name)
    return members


def _check_shard(
    found: index.SplitIndex, members: Mapping[int, set[str]], size: int, shard: int
) -> tuple[list[str], list[tuple[bytes, str]]]:
    """Returns what is wrong in a shard, and the id of each of its clips with the clip's place."""
    path = layout.shard_path(found.folder, found.split, shard, found.num_shards)
    if shard in found.missing_shards:
        return [f"{path}: is missing"], []
    problems, clip_ids, end = [], [], 0
    for number in np.flatnonzero(found.rows["shard"] == shard):
        row, where = found.rows[number], found.where(number)
        end = int(row["offset"]) + int(row["length"]) + index.FRAME_OVERHEAD
        try:
            serialized = found.read(number)
            record = schema.parse(serialized)
            clip_ids.append((record["clip_id"].numpy(), where))
            problems += [f"{where}: {problem}" for problem in _record_problems(record, row, len(serialized), size)]
            splits, listed = {name.decode() for name in record["splits"].numpy()}, members.get(number, set())
            if splits != listed:
                problems.append(
                    f"{where}: it is of the official splits {sorted(splits)}, but listed in {sorted(listed)}"
                )
        except index.DAMAGE as error:
            problems.append(found.reason(number, error))
    length = storage.patiently(lambda: tf.io.gfile.stat(path), path).length
    if length != end:
        problems.append(f"{path}: is {length} bytes long, its records end at byte {end}")
    return problems, clip_ids


def _record_problems(record: dict[str, tf.Tensor], row: np.void, length: int, size: int) -> list[str]:
    frames, audio = record["frames"], record["audio"].numpy()
    frame_rate, sample_rate = float(record["frame_rate"]), int(record["sample_rate"])
    has_audio, label = bool(record["has_audio"]), int(record["label"])
    if not len(frames) and not has_audio:
        return ["it has neither frames nor sound"]
    problems = []
    seconds = len(audio) / sample_rate
    if len(frames):
        seconds = len(frames) / frame_rate
        for name, jpeg in (("first", frames[0]), ("last", frames[-1])):
            shape = tuple(tf.io.decode_jpeg(jpeg).shape)
            if shape != (size, size, 3):
                problems.append(f"its {name} frame is {shape}, not {(size, size, 3)}")
        samples = seconds * sample_rate
        if abs(len(audio) - samples) > 1 + 1e-6 * samples:  # the rate is a float32
            problems.append(f"it has {len(audio)} samples of audio for {len(frames)} frames, {samples:.0f} expected")
    if bool(audio.any()) != has_audio:
        problems.append(f"has_audio is {has_audio}, which its samples do not bear out")
    said = (int(row["length"]), bool(row["has_audio"]), int(row["label"]))
    held = (length, has_audio, label)
    if said != held:
        problems.append(f"the index says (length, has_audio, label) = {said}, it holds {held}")
    if abs(row["seconds"] - seconds) > 1e-5 * seconds:
        problems.append(f"the index says {row['seconds']:.3f} seconds, it lasts {seconds:.3f}")
    return problems
