"""The page of `cmav app`: what it says of a video, that it can be cancelled, and that a token guards it."""

import os

import numpy as np
import pytest

import cmav
from cmav.media import decoding
from cmav.world import synthesize_videos
from tests.fake_worker import FakeWorker

pytest.importorskip("gradio")

from fastapi.testclient import TestClient

from cmav.sharing import page as page_module
from cmav.sharing.page import COOKIE, CancelledError, Page, make_server


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Videos are read in this process: tests/media/test_decoding.py has the real ones."""
    monkeypatch.setattr(decoding, "worker", FakeWorker)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    synthesize_videos.main(["--out", str(folder), "--num_videos", "1", "--seed", "77", "--workers", "1", "--quiet"])
    (path,) = folder.rglob("*.mp4")
    return str(path)


@pytest.fixture(scope="module")
def page():
    return Page(cmav.load("demo"), "demo")


def test_the_offset_and_its_picture(page, video):
    words, picture = page.offset(video)
    assert words == "In time (not calibrated)." and os.path.getsize(picture) > 1000


def test_the_overlay_tells_how_far_it_is(page, video):
    seen = []
    overlay, sheet, note = page.overlay(video, "alignment", lambda share, what: seen.append((share, what)))
    assert os.path.getsize(overlay) > 1000 and os.path.getsize(sheet) > 1000 and not note
    shares = [share for share, what in seen if "drawing" in what]
    assert shares == sorted(shares) and 0 <= shares[0] < 0.1 and shares[-1] > 0.95
    assert any("looking" in what for _, what in seen)


def test_it_can_be_cancelled_and_asked_again(page, video):
    def show(share, what):
        page.cancel()

    with pytest.raises(CancelledError):
        page.overlay(video, "similarity", show)
    assert page.overlay(video, "similarity", lambda share, what: None)


def test_similar_moments(page, video):
    pictures = page.similar(video, 9.0)
    assert pictures[0][1] == "8.4 s" and len(pictures) == 3  # of 4.2 s each in 10 s
    assert all(picture.ndim == 3 and np.ptp(picture) > 0 for picture, _ in pictures)
    alike = [float(words.split(", ")[1]) for _, words in pictures[1:]]
    assert alike == sorted(alike, reverse=True)


def test_who_has_no_token_sees_nothing(page):
    server = make_server(page, "secret")
    client = TestClient(server, base_url="http://127.0.0.1")
    for path in ("/", "/config", "/gradio_api/info", "/?token=wrong"):
        assert client.get(path).status_code == 403, path
    opened = client.get("/?token=secret")
    assert opened.status_code == 200 and opened.cookies[COOKIE] == "secret" and "gradio" in opened.text
    assert client.get("/config").status_code == 200  # by the cookie
    elsewhere = TestClient(server, base_url="http://example.com")
    assert elsewhere.get("/?token=secret").status_code == 400
    assert page_module.HOST == "127.0.0.1"
