"""Finding the files that a labelled set's official lists name, wherever they lie below a folder."""

import collections
import dataclasses
import posixpath
from collections.abc import Sequence

from cmav.media import manifest
from cmav.media.manifest import Manifest, ManifestError, Video

MAX_NAMED = 5  # files in an error


def find(
    folder: str, split: str, listed: Sequence[Video], classes: Sequence[str], *, sound_only: bool = False
) -> Manifest:
    """Makes the manifest of a listed set. Files that are not there stay in it, under the path that the list gives.

    A file is found by its listed path below the folder; else by its name anywhere below it; else by its stem, with any
    extension of a media file, because people transcode AVI to MP4.

    Args:
      folder: what `--videos` gives.
      split: the split to build.
      listed: the videos, `source` being the listed path.
      classes: names of the classes by number.
      sound_only: the files are sounds.

    Raises:
      ManifestError: where none of them is there, two files answer to one listed path, or one file to two.
    """
    root = manifest.absolute(folder)
    files = _Files(root)
    sources = [files.find(video.source) for video in listed]
    num_found = sum(source is not None for source in sources)
    if not num_found:
        raise ManifestError(
            f"--videos {folder}: not one of the {len(listed):,} listed videos is below it (such as {listed[0].source})"
        )
    owners: dict[str, Video] = {}
    for video, source in zip(listed, sources, strict=True):
        if source is not None and owners.setdefault(source, video) is not video:
            raise ManifestError(
                f"{source} in {root} answers to two listed videos: {owners[source].source} and "
                f"{video.source}. Keep the files in folders as they are listed."
            )
    videos = [
        video if source is None else dataclasses.replace(video, source=source)
        for video, source in zip(listed, sources, strict=True)
    ]
    note = f"{num_found:,} of {len(listed):,} listed videos are below {folder}"
    return Manifest(root, {split: manifest.named(videos)}, tuple(classes), (note,), sound_only)


class _Files:
    """All files below a folder, by path, by name and by stem."""

    def __init__(self, root: str):
        self._root = root
        self._paths = set(manifest.files_below(root))
        self._by_name = collections.defaultdict(list)
        self._by_stem = collections.defaultdict(list)
        for path in sorted(self._paths):
            self._by_name[posixpath.basename(path)].append(path)
            if manifest.is_media(path):
                self._by_stem[manifest.stem(path)].append(path)

    def find(self, listed: str) -> str | None:
        if listed in self._paths:
            return listed
        name = posixpath.basename(listed)
        paths = self._by_name.get(name) or self._by_stem.get(manifest.stem(name)) or [None]
        if len(paths) > 1:
            more = ", ..." if len(paths) > MAX_NAMED else ""
            raise ManifestError(
                f"{listed} is listed, and {len(paths)} files in {self._root} may be it: "
                f"{', '.join(paths[:MAX_NAMED])}{more}. Keep one of them, or give --videos a folder with one of them."
            )
        return paths[0]
