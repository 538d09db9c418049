"""How fast shards are built, beside the ffmpeg command that does the same to the same files.

    python -m benchmarks.prep --videos DIR [--json prep.json]

Both decode each file, bring its pictures to 29.97 Hz and 256 x 256, encode them as JPEGs, and resample its sound to
21 kHz, with as many processes at a time, a thread each. Videos stay whole (`--clip_seconds 0`), so that both have the
same to do. What a build does beside is in its time: start-up, the plan, records, the index. Runs alternate.

ffmpeg is that of --ffmpeg, else of the package imageio-ffmpeg, else of the PATH: it is nothing that cmav needs.
"""

import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks import measuring

# JPEGs of about the size of ours of quality 90; the quality of the scaling that ours has.
_PICTURES = "fps=30000/1001,scale=256:256:flags=bicubic+accurate_rnd"
_JPEG = ("-c:v", "mjpeg", "-q:v", "3", "-f", "image2pipe")
_SOUND = ("-ac", "2", "-ar", "21000", "-c:a", "pcm_s16le", "-f", "s16le")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", required=True, help="a folder of videos")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="of each (default: %(default)s)")
    parser.add_argument("--copies", type=int, default=1, help="of the folder, for longer runs (default: %(default)s)")
    parser.add_argument("--ffmpeg", default=_ffmpeg(), help="the program (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    args = parser.parse_args()
    listed = sorted(path for path in pathlib.Path(args.videos).rglob("*") if path.is_file())
    if not listed:
        parser.error(f"no files in {args.videos}")

    runs = {"build": [], "ffmpeg": []}
    with tempfile.TemporaryDirectory() as scratch:
        videos = pathlib.Path(scratch, "videos")
        for copy in range(args.copies):
            (videos / str(copy)).mkdir(parents=True)
            for number, path in enumerate(listed):
                (videos / str(copy) / f"{number}_{path.name}").symlink_to(path.resolve())
        for number in range(args.repeats):
            out = pathlib.Path(scratch, f"shards{number}")
            runs["build"].append(_build(videos, out, args.workers))
            runs["ffmpeg"].append(_peer(args.ffmpeg, videos, pathlib.Path(scratch), args.workers))
        # Imported late: what a small process starts is small.
        from cmav.data.index import SplitIndex

        video_seconds = float(SplitIndex.load(str(out), "train").rows["seconds"].sum())
        num_bytes = sum(shard.stat().st_size for shard in out.glob("clips-*"))

    results = {
        "files": len(listed) * args.copies,
        "workers": args.workers,
        "seconds_of_video": video_seconds,
        "shard_bytes": num_bytes,
        **{
            name: {
                key: measuring.summary([getattr(run, key) for run in of_name])
                for key in ("seconds", "cpu_seconds", "peak_bytes")
            }
            for name, of_name in runs.items()
        },
        "ratio": measuring.summary([b.seconds / a.seconds for a, b in zip(*runs.values(), strict=True)]),
        "cpu_ratio": measuring.summary([b.cpu_seconds / a.cpu_seconds for a, b in zip(*runs.values(), strict=True)]),
    }
    print(f"{results['files']} files, {video_seconds:.0f} s of video, {args.workers} processes; median (least to most)")
    for name in runs:
        of_name = results[name]
        print(
            f"{name}: {measuring.in_words(of_name['seconds'])} s, {measuring.in_words(of_name['cpu_seconds'])} s of a "
            f"core; largest process {of_name['peak_bytes']['most'] / 2**20:.0f} MiB"
        )
    print(f"as fast as ffmpeg: {measuring.in_words(results['ratio'])}; by time of a core", end=" ")
    print(measuring.in_words(results["cpu_ratio"]))
    measuring.write(args.json, results)
    return 0


def _ffmpeg() -> str:
    try:
        import imageio_ffmpeg
    except ImportError:
        return "ffmpeg"
    return imageio_ffmpeg.get_ffmpeg_exe()


def _build(videos: pathlib.Path, out: pathlib.Path, workers: int) -> measuring.Usage:
    command = [sys.executable, "data_prep/build_tfrecords.py", "--videos", videos, "--out", out]
    return measuring.timed([*command, "--clip_seconds", "0", "--workers", str(workers)])


def _peer(ffmpeg: str, videos: pathlib.Path, out: pathlib.Path, workers: int) -> measuring.Usage:
    def convert(path: pathlib.Path) -> measuring.Usage:
        pictures, sound = out / f"{path.parent.name}_{path.name}.mjpeg", out / f"{path.parent.name}_{path.name}.s16"
        command = [ffmpeg, "-v", "fatal", "-nostdin", "-y", "-threads", "1", "-filter_threads", "1", "-i", path]
        command += ["-map", "0:v:0", "-vf", _PICTURES, "-threads", "1", *_JPEG, pictures]
        try:
            return measuring.timed([*command, "-map", "0:a:0?", *_SOUND, sound])
        finally:
            for path in (pictures, sound):
                path.unlink(missing_ok=True)

    begun = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        usages = list(pool.map(convert, sorted(videos.rglob("*.*"))))
    return measuring.Usage(
        time.perf_counter() - begun,
        sum(usage.cpu_seconds for usage in usages),
        max(usage.peak_bytes for usage in usages),
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"Error: exit status {error.returncode} of {' '.join(map(str, error.cmd))}\n{error.stderr}")
