"""How fast the input pipeline is on this machine, and how well it uses the cores.

    python -m cmav.data.benchmark --data DIR --split train

Makes the examples of synchronization training (frames cropped at random, one aligned and one shifted audio) and prints
clips per second with all threads, with one thread, and their ratio.
"""

import argparse
import sys
import time

import numpy as np
import tensorflow as tf

from cmav import memory
from cmav.config import get_default
from cmav.data import checks, pipeline, sampling, video
from cmav.data.clip_shape import ClipShape
from cmav.data.index import SplitIndex
from cmav.errors import UserError


def clips_per_second(loader: pipeline.Loader, batch_size: int, num_batches: int) -> float:
    """How fast the loader is when it has nothing to wait for."""
    start = time.perf_counter()
    batches = loader.train_batches(seed=0, first_example=0, batch_size=batch_size, num_batches=num_batches)
    clips = sum(np.sum(batch["mask"]) for batch in batches)
    return clips / (time.perf_counter() - start)


def main() -> int:
    data = get_default().data
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data.dir, help="dataset folder (default: %(default)s)")
    parser.add_argument("--split", default=data.train_split, help="default: %(default)s")
    parser.add_argument("--frame_rate", type=float, default=29.97, help="of the clips, in Hz (default: %(default)s)")
    parser.add_argument("--crop_size", type=int, default=data.crop_size, help="in pixels (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="default: one per CPU core")
    parser.add_argument("--batch_size", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--num_batches", type=int, default=8, help="to measure (default: %(default)s)")
    args = parser.parse_args()
    memory.keep_freed(one_arena=False)  # As training does beside an accelerator.
    try:
        index = SplitIndex.load(args.data, args.split)
        shape = ClipShape.from_config(data, args.frame_rate)
        checks.check_dataset(index, shape, args.crop_size)
        records = checks.usable_records(index, shape.shortest_seconds(data.shift_seconds), need_audio=True)

        def make_example(record, seed, view):
            pair_seed, crop_seed = tf.unstack(tf.random.split(seed, 2))
            frames, audio = record["frames"], record["audio"]
            start, audio_starts = sampling.sample_pair(
                pair_seed, tf.shape(frames)[0], tf.shape(audio)[0], shape, data.shift_seconds
            )
            return {
                "video": video.decode_clip(sampling.clip_frames(frames, start, shape), args.crop_size, crop_seed),
                "audio": tf.stack([sampling.clip_audio(audio, first, shape) for first in tf.unstack(audio_starts)]),
            }

        threaded, single = (
            pipeline.Loader(index, make_example, records, data.max_bad_fraction, threads, sample_rate=data.sample_rate)
            for threads in (args.threads, 1)
        )
        for loader in (threaded, single):
            clips_per_second(loader, args.batch_size, num_batches=1)  # Warms up.
        fast = clips_per_second(threaded, args.batch_size, args.num_batches)
        slow = clips_per_second(single, args.batch_size, args.num_batches)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"clips of {shape.num_frames} frames of {args.crop_size}x{args.crop_size}, {len(records)} records")
    print(f"all threads: {fast:.1f} clips/s, {fast * shape.num_frames:.0f} frames/s")
    print(f"one thread:  {slow:.1f} clips/s, {slow * shape.num_frames:.0f} frames/s")
    print(f"ratio: {fast / slow:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
