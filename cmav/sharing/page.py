"""A page in one's own browser: a video is dropped on it, and a network says what it sees and hears.

`python -m cmav.app` is the command. Gradio draws the page; nothing of it is asked of another machine.
"""

import contextlib
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import av
import gradio
import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from cmav.errors import UserError
from cmav.localization.methods import list_methods
from cmav.media.streams import RejectedError
from cmav.own_videos import localized_video, offset_picture
from cmav.own_videos.sound_maps import Localizer
from cmav.own_videos.watch import picture_size
from cmav.sharing.network import Network
from cmav.tasks.base import Maps, Offsets

HOST = "127.0.0.1"
COOKIE = "cmav_token"
SIMILAR = 4  # moments to show
MAX_SHIFT_MS = 1000
_FONTS = ("system-ui", "sans-serif")  # those of the machine


class CancelledError(Exception):
    """Somebody has pressed the button."""


class Page:
    """What the page does with a network. One video at a time."""

    def __init__(self, network: Network, checkpoint: str):
        self._network, self._checkpoint = network, checkpoint
        task = network.frozen.task
        self.methods = list(list_methods(task)) if Maps in task.abilities else []
        self.has_offsets = Offsets in task.abilities
        self._localizers: dict[str, Localizer] = {}
        self._cancelled = threading.Event()
        self._files = tempfile.TemporaryDirectory(prefix="cmav-app-")  # gone with the page
        self._folder = self._files.name

    def cancel(self) -> None:
        """Ends what is being done, as soon as it looks."""
        self._cancelled.set()

    def offset(self, video: str) -> tuple[str, str | None]:
        """The verdict, and the picture of the curve, where the network can be asked."""
        if not self.has_offsets:
            return "This network cannot be asked for offsets.", None
        found = self._network.find_offset(video, max_shift_ms=MAX_SHIFT_MS)
        said, path = found.estimate, os.path.join(self._folder, "offset.png")
        offset_picture.draw(found, os.path.basename(video), path)
        words = said.verdict
        if said.low_ms is not None:
            words += f" ({said.low_ms:.0f} to {said.high_ms:.0f} ms with 95%, confidence {said.confidence:.0%})"
        return f"{words[0].upper()}{words[1:]}.", path

    def overlay(self, video: str, method: str, show: Callable[[float, str], None]) -> tuple[str, str, str]:
        """The video with the map over it, its contact sheet, and what should be known of it.

        Args:
          video: the file.
          method: one of `methods`.
          show: called with the share that is done, 0 to 1, and with what is being done.

        Raises:
          CancelledError: where `cancel` was called meanwhile.
        """
        self._cancelled.clear()
        network = self._network
        if method not in self._localizers:
            size = picture_size(None, network.size)
            self._localizers[method] = Localizer(network.frozen, method, size=size, batch_size=4)
        localizer = self._localizers[method]

        @contextlib.contextmanager
        def progress(what: str, seconds: float | None) -> Iterator[Callable[[float], None]]:
            def tell(done: float) -> None:
                if self._cancelled.is_set():
                    raise CancelledError
                show(min(done / seconds, 1.0) if seconds else 0.0, what)

            yield tell

        stem = os.path.join(self._folder, f"{os.path.splitext(os.path.basename(video))[0]}.{method}")
        paths = tuple(f"{stem}.{kind}" for kind in ("mp4", "png", "npz"))
        made_with = {"method": method, "run": self._checkpoint, "step": network.step}
        try:
            note = localized_video.write(video, localizer, paths, made_with, None, progress)
        except BaseException:
            del self._localizers[method]  # Its process may have been ended.
            raise
        return paths[0], paths[1], note

    def similar(self, video: str, seconds: float) -> list[tuple[np.ndarray, str]]:
        """Pictures of the moments that are most like one, with their time; the moment itself first.

        A moment is a clip of the network; two of those that are shown do not overlap.
        """
        clips = self._network.encode_video(video)
        means = clips.reshape(len(clips), -1, clips.shape[-1]).mean(axis=1)
        means -= means.mean(axis=0)
        units = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6)
        length = self._network.clip_seconds
        starts = np.arange(len(clips)) * length
        own = int(np.clip(seconds // length, 0, len(clips) - 1))
        alike = units @ units[own]
        order = [own, *(i for i in np.argsort(-alike).tolist() if i != own)][: SIMILAR + 1]
        return [
            (_picture(video, starts[i] + length / 2), f"{starts[i]:.1f} s" + (f", {alike[i]:.2f}" if i != own else ""))
            for i in order
        ]


def _picture(video: str, seconds: float) -> np.ndarray:
    """The frame at a time, or the last before the end."""
    with av.open(video) as file:
        stream = file.streams.video[0]
        zero = float((stream.start_time or 0) * stream.time_base)
        file.seek(int(seconds * av.time_base + zero * av.time_base))
        for frame in file.decode(stream):
            picture = frame
            if frame.time is not None and frame.time - zero >= seconds:
                break
        return picture.to_ndarray(format="rgb24")


def make_blocks(page: Page) -> gradio.Blocks:
    """The page itself."""

    def look(video: str | None, method: str | None, progress=gradio.Progress()):  # noqa: B008  as Gradio wants it
        if not video:
            raise gradio.Error("Drop a video first.", duration=None)
        try:
            verdict, curve = page.offset(video)
            yield verdict, curve, None, None
            if method:
                overlay, sheet, note = page.overlay(video, method, lambda share, what: progress(share, desc=what))
                yield (f"{verdict} {note}".strip()), curve, overlay, sheet
        except CancelledError:
            yield "Cancelled.", None, None, None
        except (UserError, RejectedError) as error:
            raise gradio.Error(str(error), duration=None) from error

    def find_similar(video: str | None, seconds: float):
        if not video:
            raise gradio.Error("Drop a video first.", duration=None)
        try:
            return page.similar(video, seconds)
        except (UserError, RejectedError) as error:
            raise gradio.Error(str(error), duration=None) from error

    with gradio.Blocks(title="cmav", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
        gradio.Markdown("# What is seen, and what is heard")
        with gradio.Row():
            with gradio.Column():
                video = gradio.Video(label="Video", sources=["upload"], height=360)
                method = gradio.Dropdown(
                    page.methods,
                    value=page.methods[0] if page.methods else None,
                    label="Map of the sound",
                    visible=bool(page.methods),
                )
                with gradio.Row():
                    start = gradio.Button("Look and listen", variant="primary")
                    stop = gradio.Button("Cancel")
            with gradio.Column():
                verdict = gradio.Textbox(label="Is the sound in time?", interactive=False, lines=2)
                curve = gradio.Image(label="Offsets that were tried", interactive=False)
        overlay = gradio.Video(label="Where the sound comes from", interactive=False, height=360)
        sheet = gradio.Image(label="Moments of it", interactive=False)
        gradio.Markdown("## Similar moments")
        seconds = gradio.Number(0, label="Second of the video", minimum=0)
        search = gradio.Button("Find moments like this one")
        gallery = gradio.Gallery(label="The moment, and those most like it", columns=SIMILAR + 1)
        start.click(look, [video, method], [verdict, curve, overlay, sheet])
        stop.click(page.cancel, queue=False)
        search.click(find_similar, [video, seconds], gallery)
    return blocks.queue(default_concurrency_limit=1)


def make_server(page: Page, token: str) -> FastAPI:
    """The page behind a token: who has not the address that the command has printed sees nothing."""
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @server.middleware("http")
    async def guard(request: Request, call_next: Any):
        given = request.query_params.get("token") or request.cookies.get(COOKIE, "")
        if not secrets.compare_digest(given.encode(), token.encode()):
            return PlainTextResponse("Open the address that cmav app has printed: it has a token.", status_code=403)
        response = await call_next(request)
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return response

    # A page of another site that has its name point here gets nothing either.
    server.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    theme = gradio.themes.Default(font=_FONTS, font_mono=("ui-monospace", "monospace"))
    return gradio.mount_gradio_app(
        server, make_blocks(page), "/", ssr_mode=False, theme=theme, footer_links=[], enable_monitoring=False
    )


def serve(network: Network, checkpoint: str, port: int) -> None:
    """Serves the page until Ctrl-C, on this machine alone."""
    token = secrets.token_urlsafe(16)
    print(f"Open http://{HOST}:{port}/?token={token} in a browser on this machine. Ctrl-C ends it.", flush=True)
    uvicorn.run(make_server(Page(network, checkpoint), token), host=HOST, port=port, log_level="warning")
