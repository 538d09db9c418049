"""Videos with the map of their sound over them: what `python -m cmav.localize` wrote into a run's `localized/`."""

from collections.abc import Iterable, Mapping
from html import escape

from etils import epath

from cmav.models.maps import MapMethod
from cmav.reporting.media import Media
from cmav.reporting.page import Section, legend

_HOW_TO_READ = (
    "<p>Each <strong>video</strong> plays with its own sound. The tint is the network's answer: where and when, as far "
    "as it can tell, something makes the sound. It compares the places and moments of one video with each other, and "
    "says nothing about how sure the network is, nor about another video. White outlines, where there are any, are "
    "where the sound really is.</p>\n"
    "<p>The <strong>sheet</strong> shows one moment of each sixth of the video, at the top as it is and below with the "
    "map: always the moment that is lit most, whether the right place is lit or not.</p>"
)
_HEAT = "<p>Colours run from blue, a little, to red, most.</p>"
_HEADS = (
    "<p>With <em>{}</em> the colour of the video says which head looks there (below the sheet), and the "
    "strength of the tint how much the heads do together. The sheet's last row shows that alone, from blue, a little, "
    "to red, most.</p>"
)


def sections(folder: epath.Path, media: Media, methods: Mapping[str, MapMethod]) -> list[Section]:
    """One section with all overlays and contact sheets, by video; none where there are none.

    `methods` are those that are known of the run's network.
    """
    localized = folder / "localized"
    if not localized.is_dir():
        return []
    paths = [*sorted(localized.glob("*.mp4")), *sorted(localized.glob("*.png"))]
    shown = {_method(path) for path in paths}
    if not shown:
        return []
    blocks = [_HOW_TO_READ]
    by_heads = sorted(name for name in shown if name in methods and methods[name].by_heads)
    if shown - set(by_heads):
        blocks.append(_HEAT)
    blocks += [_HEADS.format(escape(name)) for name in by_heads]
    blocks.append(legend(shown, {name: method.meaning for name, method in methods.items()}))
    for name in sorted({_name(path) for path in paths}):
        blocks.append(_one(name, [path for path in paths if _name(path) == name], media))
    return [Section("Where the sound is: videos to look at", "\n".join(blocks))]


def _name(path: epath.Path) -> str:
    return path.stem.rpartition(".")[0]


def _method(path: epath.Path) -> str:
    return path.stem.rpartition(".")[2]


def _one(name: str, paths: Iterable[epath.Path], media: Media) -> str:
    """The overlays of a video side by side, one for each method, and the sheets below them."""
    videos, sheets = [], []
    for path in paths:
        method = escape(_method(path))
        if path.suffix == ".mp4":
            element = media.video(path, f"{name}, tinted where the network finds the sound")
            videos.append(f"<figure>{element}<figcaption>{method}</figcaption></figure>")
        else:
            element = media.image(path, f"Moments of {name}, as they are and with the map")
            sheets.append(f"<figure>{element}<figcaption>{method}: sheet</figcaption></figure>")
    row = ['<div class="videos">', *videos, "</div>"] if videos else []
    return "\n".join([f"<h3>{escape(name)}</h3>", *row, *sheets])
