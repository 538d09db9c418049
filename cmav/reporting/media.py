"""Pictures and videos of a page, within the page itself."""

import base64
import urllib.parse
from html import escape

from etils import epath

BUDGET = 60_000_000  # bytes of media; base64 makes them a third longer, and browsers still open it at once


class Media:
    """Makes elements of pictures and videos: within the page as long as there is room, linked after that.

    Attributes:
      linked: paths of those that had no room, relative to the page.
    """

    def __init__(self, folder: epath.Path, budget: int = BUDGET):
        """Args: folder, in which the page will lie, with the media in it or below; budget, in bytes of their files."""
        self._folder, self._left = folder, budget
        self.linked: list[str] = []

    def image(self, path: epath.Path, description: str) -> str:
        """A PNG. The description is for whoever cannot see it."""
        return f'<img src="{self._source(path, "image/png")}" alt="{escape(description)}">'

    def video(self, path: epath.Path, description: str) -> str:
        """An MP4, with controls."""
        source = self._source(path, "video/mp4")
        return (
            f'<video controls loop playsinline preload="metadata" src="{source}" aria-label="{escape(description)}">'
            "This browser shows no videos.</video>"
        )

    def _source(self, path: epath.Path, kind: str) -> str:
        size = path.stat().length
        if size > self._left:
            relative = path.relative_to(self._folder).as_posix()
            self.linked.append(relative)
            return urllib.parse.quote(relative)
        self._left -= size
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
