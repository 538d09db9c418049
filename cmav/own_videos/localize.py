"""Where the sound is in videos that need no shards. `python -m cmav.localize` is the command."""

import contextlib
import dataclasses
import os
from collections.abc import Sequence

from absl import logging

from cmav.errors import UserError, within
from cmav.localization.methods import choose, list_methods
from cmav.media import manifest
from cmav.media.streams import RejectedError
from cmav.own_videos import known_boxes, localized_video
from cmav.own_videos.sound_maps import Localizer
from cmav.training import frozen


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of the videos.

    Attributes:
      written: path of each video that was localized -> paths of its MP4, PNG and NPZ.
      notes: path of a video -> what should be known of it: it has no sound, or some of it was lost.
      failures: path of a video that gave nothing -> why.
    """

    written: dict[str, tuple[str, str, str]]
    notes: dict[str, str]
    failures: dict[str, str]


def localize(
    videos: Sequence[str],
    checkpoint: str,
    out: str,
    *,
    method: str | None = None,
    boxes: str | None = None,
    batch_size: int = 4,
    size: int | None = None,
    stride: int | None = None,
) -> Result:
    """Writes an overlay, a contact sheet and the maps of each video. `cmav.localize` says what they are.

    Args:
      videos: files, and folders that are walked to their depth.
      checkpoint: as `cmav.training.frozen.load` takes it.
      out: folder for the files; local. Those of the same names are replaced.
      method: one that the network has (`cmav.localization.methods`); None: the first that it has.
      boxes: where the sound really is, as `cmav.own_videos.known_boxes.read` reads it; drawn over the videos that are
        in it by their names. Those of a synthetic world move, others are drawn around the video's middle.
      batch_size: windows that the network sees at a time.
      size: width and height to which the network's pictures are brought, in pixels; None: as much larger than the
        crop of its training as 256 is than 224. Best is what its shards were built with.
      stride: pixels of these from one place of a map to the next, as small as the stride after any of the network's
        layers (`cmav.models.layers.finer`); None: the network's own.

    Raises:
      UserError: where videos, checkpoint or boxes are not there, or the network is not one for the method, or storage
        does not answer.
    """
    if "://" in out:
        raise UserError(f"--out={out} must be a local folder.")
    names = _names(videos)
    known = known_boxes.read(boxes) if boxes else {}
    if boxes and not known.keys() & set(names.values()):
        logging.warning("--boxes=%s has none of these videos (such as %r)", boxes, next(iter(names.values())))
    network = frozen.load(checkpoint)
    with within(f"--checkpoint={checkpoint}"):
        method = choose(method, list_methods(network.task))
    if doubt := network.task.doubt((method,)):
        logging.warning("--checkpoint=%s: %s.", checkpoint, doubt)
    size = size or round(network.task.data_config.crop_size * 256 / 224)
    localizer = Localizer(network, method, size=size, batch_size=batch_size, stride=stride)
    os.makedirs(out, exist_ok=True)
    logging.info("%d videos; %s of step %d of %s", len(names), method, network.step, network.run)

    result = Result({}, {}, {})
    made_with = {"method": method, "run": network.run, "step": network.step, "size": size, "stride": localizer.stride}
    with contextlib.closing(localizer):
        for path, name in names.items():
            paths = tuple(os.path.join(out, f"{name}.{method}.{kind}") for kind in ("mp4", "png", "npz"))
            try:
                note = localized_video.write(path, localizer, paths, made_with, known.get(name))
            except RejectedError as error:
                result.failures[path] = str(error)
            except UserError:
                raise
            except Exception as error:  # One video must not take the others down, whatever it makes a library raise.
                logging.exception("%s", path)
                result.failures[path] = f"unforeseen error ({type(error).__name__}: {error})"
            else:
                result.written[path] = paths
                if note:
                    result.notes[path] = note
    return result


def _names(videos: Sequence[str]) -> dict[str, str]:
    """Path of each video -> what its files are called: its name, with a number where several have the same."""
    paths = []
    for video in videos:
        if os.path.isdir(video):
            listed = manifest.walk(video, "all")
            paths += [one.path(listed.root) for one in listed.splits["all"]]
        elif "://" in video or os.path.exists(video):
            paths.append(video)
        else:
            raise UserError(f"{video}: there is no such video or folder.")
    names, taken = {}, set()
    for path in dict.fromkeys(paths):
        stem = name = manifest.stem(path)
        number = 2
        while name in taken:
            name, number = f"{stem}~{number}", number + 1
        taken.add(name)
        names[path] = name
    return names
