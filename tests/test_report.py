"""The page that gathers a run: what is in it, what is left out, and that it needs nothing beside it."""

import base64
import re

import pytest
from etils import epath

from cmav import report
from cmav.errors import UserError
from cmav.reporting.media import Media
from tests.reporting.sample_run import (
    CONFIG,
    FREQUENCIES,
    MP4,
    PNG,
    RETRIEVAL,
    SUMMARY,
    WHOLE_RUN,
    localization,
    localization_row,
    page_of,
    write_files,
)


def test_a_whole_run_is_one_file_that_loads_nothing(tmp_path):
    page = page_of(tmp_path, WHOLE_RUN)
    html = (tmp_path / "report.html").read_text()
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base"), tag
        assert "style" not in attrs and "srcset" not in attrs
        assert attrs.get("src", "data:").startswith("data:")
        assert attrs.get("href", "#").startswith("#")
    assert not re.search(r"url\(|@import", html)
    anchors = {attrs["href"] for _, attrs in page.tags if "href" in attrs}
    ids = [f"#{attrs['id']}" for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) == 4 and anchors == set(ids)


def test_media_are_in_the_page_byte_for_byte(tmp_path):
    page = page_of(tmp_path, WHOLE_RUN)
    prefix = {"img": "data:image/png;base64,", "video": "data:video/mp4;base64,"}
    decoded = {
        tag: [base64.b64decode(source.removeprefix(start), validate=True) for source in page.sources(tag)]
        for tag, start in prefix.items()
    }
    assert decoded["img"] == [PNG + kind for kind in (b"curves", b"labels", b"sheet", b"maps")]
    assert decoded["video"] == [MP4 + b"attention", MP4 + b"cam"]
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")


@pytest.mark.parametrize(
    "name",
    [
        "summary.json",
        "curves.png",
        "localization_validation.json",
        "localization_validation.png",
        "localized/dog.cam.png",
        "retrieval_validation.json",
        "frequencies_validation.json",
        "frequencies_validation.png",
    ],
)
def test_one_part_alone_is_a_report(tmp_path, name):
    parts = {"retrieval_validation.json": RETRIEVAL, "frequencies_validation.json": FREQUENCIES}
    page = page_of(tmp_path, {name: {**WHOLE_RUN, **parts, "frequencies_validation.png": PNG}[name]})
    assert [tag for tag, _ in page.tags].count("section") == 1
    assert "newest checkpoint" not in page.text


def test_nothing_at_all_is_an_error_that_says_what_to_run(tmp_path):
    write_files(tmp_path, {"config.json": CONFIG, "localized/dog.cam.npz": b""})
    with pytest.raises(UserError, match=r"nothing to report on(.|\n)*cmav train demo"):
        report.write(str(tmp_path))
    with pytest.raises(UserError, match="nowhere has nothing"):
        report.write(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="--workdir"):
        report.main(None)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", b'{"steps": 7'),
        ("summary.json", b"\xff\xfe"),
        ("summary.json", {"steps": 700}),
        ("config.json", {"task": "avs", "data": None}),
        ("localization_validation.json", {**localization(), "rows": [{"name": "cam"}]}),
        ("localization_validation.json", localization(rows=[localization_row("cam", "hearsay", 0.5)])),
        (
            "localization_validation.json",
            localization(rows=[{**localization_row("cam", "network", 0.5), "pixel_ap": None}]),
        ),
        ("localization_validation.json", localization(heads=[{"sources": 2}])),
        ("localization_validation.json", []),
        ("retrieval_validation.json", {"clips": 128}),
        ("retrieval_validation.json", {**RETRIEVAL, "audio_to_video_median_rank": None}),
        ("frequencies_validation.json", {key: FREQUENCIES[key] for key in ("guided", "clips", "clips_with_offscreen")}),
        ("frequencies_validation.json", {**FREQUENCIES, "pure": {}}),
        ("frequencies_validation.json", {**FREQUENCIES, "pure": {"band_auc": 0.5, "told_apart": 0.5}}),
        ("frequencies_validation.json", []),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content):
    write_files(tmp_path, {"summary.json": SUMMARY, name: content})
    with pytest.raises(UserError, match=re.escape(str(tmp_path / name))):
        report.write(str(tmp_path))


def test_names_are_text_wherever_they_stand(tmp_path):
    name = '<b>&"'
    table = localization(split=name, rows=[localization_row(name, "network", 0.5, undecided=1)])
    files = {f"localized/{name}.cam.mp4": MP4, f"localized/{name}.cam.png": PNG, "localization_validation.json": table}
    page = page_of(tmp_path / name, {**files, "summary.json": SUMMARY})
    assert [attrs["aria-label"] for tag, attrs in page.tags if tag == "video"] == [
        f"{name}, tinted where the network finds the sound"
    ]
    assert [attrs["alt"] for tag, attrs in page.tags if tag == "img"] == [
        f"Moments of {name}, as they are and with the map"
    ]
    assert f"{name} 1 of 52 undecided" in page.rows()
    assert f"the split “{name}”" in page.text and f"What the run “{name}” learned" in page.text
    assert [attrs for tag, attrs in page.tags if tag == "b"] == [
        {},
        {},
        {},
        {},
    ]  # ours: the best row's name and numbers


def test_beyond_the_budget_media_are_linked(tmp_path):
    name = 'a "#%.cam.mp4'
    sizes = {f"localized/{name}": bytes(700), "localized/b.cam.mp4": bytes(300), "localized/c.cam.mp4": bytes(1)}
    page = page_of(tmp_path, {**sizes, "curves.png": bytes(400)}, budget=701)
    assert page.sources("img")[0].startswith("data:")
    linked, *embedded = page.sources("video")
    assert linked == "localized/a%20%22%23%25.cam.mp4"
    assert len(embedded) == 2 and all(source.startswith("data:") for source in embedded)
    assert "but for 1 that would have made it too large" in page.text
    assert "too large" not in page_of(tmp_path, {}).text


def test_media_that_fill_the_budget_exactly_are_embedded(tmp_path):
    write_files(tmp_path, {"a.png": bytes(8), "b.png": bytes(1)})
    media = Media(epath.Path(tmp_path), budget=8)
    assert 'src="data:' in media.image(epath.Path(tmp_path / "a.png"), "a")
    assert 'src="b.png"' in media.image(epath.Path(tmp_path / "b.png"), "b")
    assert media.linked == ["b.png"]


def test_how_to_make_it_again(tmp_path):
    page = page_of(tmp_path / "demo", WHOLE_RUN)
    assert f"python -m cmav.main --config=configs/demo.py --workdir={tmp_path}/demo" in page.text
    assert "newest checkpoint: step 1700, saved 20" in page.text  # neither the oldest nor one that was cut off
    other = page_of(tmp_path / "my run", WHOLE_RUN)
    assert f"--config=CONFIG.py --workdir='{tmp_path}/my run'" in other.text
