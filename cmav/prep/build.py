"""What `build_tfrecords.py` does once its flags are read: plan, do the units of work, finish, verify."""

import argparse
import concurrent.futures
import os
import sys
from collections.abc import Callable, Sequence

import tensorflow as tf
import tqdm

from cmav.data import layout, storage
from cmav.errors import UserError, to_paste
from cmav.media import manifest
from cmav.media.clips import ClipOptions
from cmav.prep import (
    beam_runner,
    datasets,
    files,
    finish,
    overlap,
    plan,
    plan_files,
    shards,
    tfds_videos,
    verify,
    workers,
)
from cmav.prep.held_out import hold_out


def run(args: argparse.Namespace) -> int:
    """Builds and verifies as the flags say. Returns the exit status."""
    try:
        folder = args.out.rstrip("/") if "://" in args.out else os.path.abspath(args.out)
        whole = _build(args, folder) if args.videos or args.dataset else True
        if args.verify and whole:
            whole = verify.verify(folder, args.split, args.workers)
        return 0 if whole else 1
    except KeyboardInterrupt:
        print("\nInterrupted. What is finished is kept: the same command goes on from there.", file=sys.stderr)
        return 130
    except (UserError, tf.errors.OpError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _build(args: argparse.Namespace, folder: str) -> bool:
    """Builds each split that is asked for. Returns whether all are finished."""
    listed, work = _listed(args)
    for note in listed.notes:
        print(note)
    options = ClipOptions(
        args.clip_seconds, args.size, args.frame_rate, args.sample_rate, args.jpeg_quality, listed.sound_only
    )
    for split in listed.splits:  # all, before the work of hours begins
        plan.check_split_name(split)
    if len(listed.splits) > 1 and not args.allow_overlap:
        overlap.check({split: overlap.real_parts(videos, listed.root) for split, videos in listed.splits.items()})
    tf.io.gfile.makedirs(folder)
    unfinished = []
    for split in listed.splits:
        resolved = plan.resolve(
            folder,
            listed,
            split,
            options,
            args.shards,
            skip_gone=args.skip_gone,
            num_workers=args.workers,
            allow_overlap=args.allow_overlap,
        )
        _do_units(args, resolved, folder, listed.root, work)
        missing = sorted(set(range(resolved.num_shards)) - shards.finished(folder, resolved))
        if missing:
            unfinished.append(split)
            print(_what_is_missing(split, missing, resolved.num_shards, args.shard_range))
        else:
            print(f"{split}: {finish.finish(folder, resolved)}")
    if not unfinished:
        print(_next_steps(folder, args.dataset, listed.sound_only))
    return not unfinished


def _listed(args: argparse.Namespace) -> tuple[manifest.Manifest, Callable[..., None]]:
    """What is to be built, and the function that does a unit of that work."""
    if not args.dataset:
        listed = manifest.read(args.videos, args.split)
        return hold_out(listed, args.validation_share) if args.validation_share else listed, shards.build
    if args.dataset.startswith(tfds_videos.PREFIX):
        return tfds_videos.read(args.dataset, args.videos, args.split, args.shards), tfds_videos.build
    return datasets.read(args.dataset, args.videos, args.lists, args.split), shards.build


def _do_units(args: argparse.Namespace, resolved: plan.Plan, folder: str, root: str, work: Callable[..., None]) -> None:
    part, parts = args.shard_range or (0, 1)
    done = shards.finished(folder, resolved)
    mine = range(part, resolved.num_shards, parts)
    if args.retry_rejects:
        done -= _forget_rejects(folder, resolved, [shard for shard in mine if shard in done])
    todo = [shard for shard in mine if shard not in done]
    is_staged = storage.exists(layout.index_path(folder, resolved.split))
    units = [resolved.unit(shard, folder, root, is_staged=is_staged, skip_gone=args.skip_gone) for shard in todo]
    if args.runner == "beam":
        beam_runner.run(units, args.beam_args)
        return
    num_before = sum(resolved.count(shard) for shard in mine if shard in done)
    num_videos = num_before + sum(len(unit.videos) for unit in units)
    with tqdm.tqdm(total=num_videos, initial=num_before, desc=resolved.split, unit="video") as bar:
        workers.run(
            units,
            work,
            args.workers,
            on_progress=lambda num_done: bar.update(num_before + num_done - bar.n),
        )


def _forget_rejects(folder: str, resolved: plan.Plan, numbers: Sequence[int]) -> set[int]:
    """Removes the reports of shards that have rejects, so that these are built again. Returns their numbers."""

    def has_rejects(shard: int) -> bool:
        return bool(shards.read_report(folder, resolved, shard).rejects)

    with concurrent.futures.ThreadPoolExecutor(plan_files.NUM_THREADS) as pool:
        again = [shard for shard, found in zip(numbers, pool.map(has_rejects, numbers), strict=True) if found]
        list(pool.map(lambda shard: files.remove(files.report_path(folder, resolved.split, shard)), again))
    print(f"{resolved.split}: {len(again)} shards have rejects and are built again")
    return set(again)


def _what_is_missing(split: str, missing: list[int], num_shards: int, shard_range: tuple[int, int] | None) -> str:
    numbers = ", ".join(map(str, missing[:20])) + (", ..." if len(missing) > 20 else "")
    text = f"{split}: {len(missing)} of {num_shards} shards are still to be built: {numbers}"
    if shard_range:
        _, parts = shard_range
        ranges = ", ".join(f"{part}/{parts}" for part in sorted({shard % parts for shard in missing}))
        text += f"\nThe run that builds the last of them finishes the split. They belong to --shard_range {ranges}"
    return text


def _next_steps(folder: str, dataset: str | None, sound_only: bool) -> str:
    splits = layout.list_splits(folder)
    lines = [f"{folder} holds the splits: {', '.join(splits)}"]
    if dataset:
        config = [f"finetune_{dataset}"] if dataset in ("ucf101", "hmdb51") else []
        command = to_paste("cmav", "finetune", *config, f"--config.data.dir={folder}")
        return "\n".join(lines if sound_only else [*lines, f"Next:{command}"])
    if "train" in splits and "validation" not in splits:
        lines += ["To evaluate while training, build held-out videos too, with --split validation"]
    return "\n".join([*lines, f"Next:{to_paste('cmav', 'train', 'avs_cma', f'--config.data.dir={folder}')}"])
