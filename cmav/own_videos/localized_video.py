"""One video with the map of its sound over it: the overlay, the contact sheet, and the maps."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from tqdm import tqdm

from cmav.localization import heat
from cmav.media import decoding
from cmav.own_videos.contact_sheet import Sample, save_sheet, shrunk
from cmav.own_videos.known_boxes import KnownBoxes
from cmav.own_videos.overlay_video import OverlayVideo, send_header, send_shown
from cmav.own_videos.sound_maps import Localizer, SoundMaps

SHEET_FRAMES = 6

Progress = Callable[[str, float | None], contextlib.AbstractContextManager[Callable[[float], None]]]


def write(
    path: str,
    localizer: Localizer,
    paths: tuple[str, str, str],
    made_with: Mapping[str, str | int],
    known: KnownBoxes | None,
    progress: Progress | None = None,
) -> str:
    """Writes the three files of a video. Returns what should be known of it, or an empty text.

    Args:
      path: of the video.
      localizer: whose maps it is drawn with.
      paths: of the overlay, the contact sheet and the maps.
      made_with: method, run and step, and whatever else belongs into the file of the maps.
      known: where the sound really is, to be drawn. Where it is known of the middle, the sheet shows this as well.
      progress: (what is being done, seconds of the video) -> a context that gives what is called with the seconds that
        are done; None: a bar in the terminal.

    Raises:
      RejectedError: where nothing of the video can be decoded, or its decoder dies.
      UserError: where storage does not answer.
    """
    overlay_path, sheet_path, maps_path = paths
    progress = progress or _progress
    name = os.path.basename(path)
    (header,) = decoding.read(localizer.worker, send_header, path)
    with progress(f"{name}: looking", header.seconds) as tell:
        found = localizer.find(path, tell)
    # The header knows the length better: that of the maps is in steps of the frame rate that the network sees.
    drawing = _Drawing(found, known, min(header.seconds or found.times[-1], found.times[-1]))
    wanted, samples = deque(drawing.sheet_instants()), []
    overlay = OverlayVideo(overlay_path, header.rate, has_sound=found.has_audio)
    with overlay, progress(f"{name}: drawing", found.times[-1]) as tell:
        for shown in decoding.read(localizer.worker, send_shown, path, found.has_audio):
            if shown.sound is not None:
                overlay.add_sound(shown.sound)
            if shown.time is None:
                damage = shown.damage
                continue  # to the process's own end
            seconds = float(shown.time)
            overlay.write(shown.time, drawing.overlay(shown.picture_HxWx3, seconds))
            while wanted and seconds >= wanted[0]:
                samples.append(drawing.sample(shown.picture_HxWx3, wanted.popleft()))
            last = shown.picture_HxWx3
            tell(seconds)
    samples += [drawing.sample(last, later) for later in wanted]  # The last picture is still on screen.
    notes = [found.note or damage or ""]
    if not found.has_audio:
        notes.insert(0, "it has no sound: nothing is lit")
    elif not heat.audible(found.loudness).any():
        notes.insert(0, "it is silent: nothing is lit")
    elif not drawing.full:
        notes.insert(0, "nothing in it speaks for a sound: nothing is lit")
    note = "; ".join(filter(None, notes))
    title = f"{name}: {made_with['method']}, step {made_with['step']} of {made_with['run']}"
    if known and known.is_of_middle:
        title += f"; the truth is known at {drawing.middle:.1f} s"
    save_sheet(sheet_path, samples, f"{title}\n{note}" if note else title, num_heads=drawing.num_heads)
    found.save(maps_path, full=drawing.full, **made_with)
    return note


def _liveliest(found: SoundMaps) -> list[float]:
    """For the sheet: of each of some equal parts of a video, the instant at which most speaks for the sound."""
    most = found.maps.max(axis=(1, 2))
    # Not a video's first and last instants: their maps are those of a little later and earlier.
    instants = np.arange(len(most))[1:-1] if len(most) > 2 else np.arange(1)
    parts = [part for part in np.array_split(instants, SHEET_FRAMES) if part.size]
    return [float(found.times[part[most[part].argmax()]]) for part in parts]


class _Drawing:
    """The maps of a video, drawn over its pictures.

    Attributes:
      full: the value that is shown brightest.
      middle: of the video, in seconds.
      num_heads: of the maps; 0 where the method has none.
    """

    def __init__(self, found: SoundMaps, known: KnownBoxes | None, seconds: float):
        """Of the maps, the boxes and the length of a video."""
        self._found, self._known = found, known
        self.full = heat.full(found.maps)
        self.middle = float(seconds) / 2
        self.num_heads = 0 if found.heads is None else found.heads.shape[1]

    def overlay(self, picture_HxWx3: np.ndarray, seconds: float) -> np.ndarray:
        """A picture with the map of its instant, in the heads' colours where there are heads, and with the boxes."""
        size = picture_HxWx3.shape[:2]
        small_map, small_heads = self._found.at(seconds)
        map_HxW = self._found.enlarged(small_map, size)
        if small_heads is None:
            picture = heat.paint(picture_HxWx3, map_HxW, self.full)
        else:
            colours_3xHxW = self._found.enlarged(heat.mix_heads(small_heads), size)
            picture = heat.paint(picture_HxWx3, map_HxW, self.full, colours_3xHxW.transpose(1, 2, 0))
        return heat.draw_boxes(picture, self._known.at(seconds, self.middle)) if self._known else picture

    def sheet_instants(self) -> list[float]:
        """Those at which most speaks for the sound; with boxes of the middle, this in place of those close to it."""
        liveliest = _liveliest(self._found)
        if not (self._known and self._known.is_of_middle):
            return liveliest
        far = (seconds for seconds in liveliest if not len(self._known.at(seconds, self.middle)))
        return sorted([self.middle, *far])

    def sample(self, picture_HxWx3: np.ndarray, seconds: float) -> Sample:
        """A column of the contact sheet."""
        small = shrunk(picture_HxWx3)
        rows = {"as it is": small, "with the map": self.overlay(small, seconds)}
        if self.num_heads:
            map_HxW = self._found.enlarged(self._found.at(seconds)[0], small.shape[:2])
            rows["heads combined"] = heat.paint(small, map_HxW, self.full)
        return Sample(seconds, rows, self._found.is_silent(seconds))


@contextlib.contextmanager
def _progress(what: str, seconds: float | None) -> Iterator[Callable[[float], None]]:
    """A bar of seconds of a video, with the time left. Gives what tells it how many are done."""
    # Without a total there is nothing to show but how many are done.
    form = "{desc} {percentage:.0f}% of {total:.0f} s |{bar}| {elapsed}, {remaining} left" if seconds else None
    with tqdm(desc=what, total=seconds, unit=" s", bar_format=form) as bar:

        def tell(done: float) -> None:
            bar.update(min(done, bar.total or done) - bar.n)

        yield tell
        if bar.total:
            tell(bar.total)
