"""The page that gathers a run: what is in it, what is left out, and that it needs nothing beside it."""

import base64
import json
import re
from html.parser import HTMLParser

import pytest
from etils import epath

from cmav import config as cmav_config
from cmav import report
from cmav.errors import UserError
from cmav.reporting.media import Media
from cmav.training import run_config

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(range(255, -1, -1))
VOID = {"meta", "img", "br", "link", "input", "hr", "source"}
CONFIG = {"version": run_config.VERSION, **json.loads(cmav_config.get_default().to_json())}
CONFIG["data"] |= {"dir": "data/<demo>"}
SUMMARY = {
    "steps": 1700,
    "seconds": 332.4,
    "avs_accuracy": 0.921875,
    "avs_accuracy_interval": [0.8298, 0.9662],
    "avs_accuracy_aligned": 0.96875,
    "avs_accuracy_shifted": 0.875,
    "clips": 64,
}
RETRIEVAL = {
    "video_to_audio_r1": 0.4140625,
    "video_to_audio_r5": 0.75,
    "video_to_audio_r10": 0.8125,
    "video_to_audio_r1_low": 0.3324,
    "video_to_audio_r1_high": 0.5008,
    "video_to_audio_median_rank": 2.0,
    "audio_to_video_r1": 0.015625,
    "audio_to_video_r5": 0.0625,
    "audio_to_video_r10": 0.125,
    "audio_to_video_r1_low": 0.0043,
    "audio_to_video_r1_high": 0.0552,
    "audio_to_video_median_rank": 51.5,
    "r1": 0.21484375,
    "r1_chance": 1 / 128,
    "clips": 128,
}
FREQUENCIES = {
    "energy": {"band_auc": 0.7, "told_apart": 0.5, "told_apart_low": 0.2, "told_apart_high": 0.8},
    "guided": {"band_auc": 0.875, "told_apart": 0.75, "told_apart_low": 0.55, "told_apart_high": 0.89},
    "pure": {"band_auc": 0.6, "told_apart": 0.25, "told_apart_low": 0.11, "told_apart_high": 0.45},
    "clips": 103,
    "clips_with_offscreen": 24,
}


class Page(HTMLParser):
    """A page taken apart: its tags with their attributes, and its text. Every element must be closed in its place."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self.cells, self._open = [], [], [], []
        self.feed(html)
        self.close()
        assert self._open == []
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute stands twice: {tag} {attrs}"
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open and self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.words.append(data)
        if {"td", "th"} & set(self._open):
            self.cells[-1][-1] += data + " "

    def sources(self, tag):
        return [attrs["src"] for name, attrs in self.tags if name == tag]

    def rows(self):
        """Of all tables: name of the row -> its cells, white space made one."""
        rows = [[" ".join(cell.split()) for cell in row] for row in self.cells]
        return {row[0]: row[1:] for row in rows}


def localization_row(name, kind, pixel_ap, **others):
    """A row whose intervals are 0.02 to either side."""
    numbers = {"ciou50": 0.25, "auc": 0.3125, "pixel_ap": pixel_ap}
    ends = {
        f"{key}_{end}": value + by for key, value in numbers.items() for end, by in (("low", -0.02), ("high", 0.02))
    }
    nothing = dict.fromkeys(("source_recall", "source_recall_of_several", "distractor_recall", "false_alarm_rate"))
    return {"name": name, "kind": kind, **numbers, **ends, **nothing, "undecided": 0, **others}


def localization(**others):
    alarms = {"false_alarm_rate": 0.25, "false_alarm_low": 0.1, "false_alarm_high": 0.5}
    return {
        "split": "validation",
        "step": 1700,
        "clips": 52,
        "clips_without": 12,
        "stride": 4,
        "size": 48,
        "rows": [
            localization_row("whole image", "trivial", 0.1, undecided=52),
            localization_row("centred disc", "trivial", 0.2),
            localization_row("upper bound", "trivial", 1.0),
            localization_row("cam", "network", 0.35, source_recall=0.415, undecided=3, **alarms),
            localization_row("attention", "network", 0.404),
            localization_row("cam, untrained", "untrained", 0.38),
        ],
        "heads": None,
        **others,
    }


def write_files(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def page_of(folder, files, **settings):
    write_files(folder, files)
    path = report.write(str(folder), **settings)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


WHOLE_RUN = {
    "config.json": CONFIG,
    "summary.json": SUMMARY,
    "curves.png": PNG + b"curves",
    "pretext_validation_per_label.png": PNG + b"labels",
    "localization_validation.json": localization(),
    "localization_validation.png": PNG + b"maps",
    "localized/dog.cam.mp4": MP4 + b"cam",
    "localized/dog.attention.mp4": MP4 + b"attention",
    "localized/dog.cam.png": PNG + b"sheet",
    "localized/dog.cam.npz": b"numbers",
    "checkpoints/400/params": b"",
    "checkpoints/1700/params": b"",
    "checkpoints/1800.orbax-checkpoint-tmp/params": b"",
}


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


def test_the_question_and_the_answer_in_one_sentence(tmp_path):
    text = page_of(tmp_path, WHOLE_RUN).text
    assert "is the sound in sync with the picture, or shifted by 2.0–5.8 s?" in text
    assert "right in 92.2% of the cases (95% interval 83.0–96.6%); guessing is right in 50%." in text
    assert "96.9%" in text and "87.5%" in text and "1,700 steps and 5.5 minutes" in text
    assert "data/<demo>" in text  # as text, not as a tag
    assert "guessing is right in 50%. That cannot be told" not in text


def test_which_sounds_and_pictures_belong_together(tmp_path):
    summary = {"steps": 600, "seconds": 1200.0, **RETRIEVAL}
    page = page_of(tmp_path, {"retrieval_validation.json": RETRIEVAL, "summary.json": summary})
    assert "given 128 clips that were kept out" in page.text
    asked, back = page.text.split("And the other way round")
    assert "which of the 128 sounds belongs to these pictures?" in asked
    assert asked.endswith("right in 41.4% of the cases (95% interval 33.2–50.1%); guessing is right in 0.781%. ")
    assert "right in 1.6% of the cases (95% interval 0.4–5.5%); guessing is right in 0.781%. That cannot be" in back
    rows = page.rows()
    assert rows["the sound, by the pictures"] == ["41.4 33.2–50.1", "75.0", "81.2", "2"]
    assert rows["the pictures, by the sound"] == ["1.6 0.4–5.5", "6.2", "12.5", "51.5"]
    assert rows["by guessing"] == ["0.8", "3.9", "7.8", "64.5"]
    assert "the split “validation”" in page.text and "600 steps" in page.text and "not evaluated" not in page.text
    assert [tag for tag, _ in page.tags].count("section") == 1


def test_among_few_clips_guessing_finds_all(tmp_path):
    page = page_of(tmp_path, {"retrieval_test.json": {**RETRIEVAL, "clips": 8}})
    assert page.rows()["by guessing"] == ["12.5", "62.5", "100.0", "4.5"]


def test_attention_over_frequencies(tmp_path):
    config = {"version": run_config.VERSION, **json.loads(cmav_config.get_default("cmac").to_json())}
    files = {"frequencies_validation.json": FREQUENCIES, "frequencies_validation.png": PNG + b"bands"}
    files["config.json"] = config
    page = page_of(tmp_path, files)
    assert page.rows() == {
        "attention": ["AUC ↑", "told apart ↑"],
        "guided": ["87.5", "75.0 55.0–89.0"],
        "pure": ["60.0", "25.0 11.0–45.0"],
        "energy": ["70.0", "50.0 20.0–80.0"],
    }
    assert list(page.rows())[-1] == "energy"
    assert "in 103 clips" in page.text and "in 24 of them something else" in page.text
    assert "the best attention is “guided”, with 87.5. The sound's energy has 70.0. Where" in page.text
    assert "right in 75.0% of the cases (95% interval 55.0–89.0%); guessing is right in 50%." in page.text
    assert "told from guessing" not in page.text and "split “validation”" in page.text
    for meaning in ("guided by what is seen", "by itself, having learned", "hears without looking", "off-screen, how"):
        assert meaning in page.text
    (source,) = page.sources("img")
    assert base64.b64decode(source.partition(",")[2]) == PNG + b"bands"


def test_attention_that_is_no_better_than_the_energy(tmp_path):
    rows = {"energy": {"band_auc": 0.9}, "guided": {"band_auc": 0.5}, "clips": 4, "clips_with_offscreen": 0}
    page = page_of(tmp_path, {"frequencies_test.json": rows})
    assert page.rows()["guided"] == ["50.0", "–"]
    assert "has 90.0: the attention is no better." in page.text and "It was right" not in page.text


def test_an_accuracy_that_could_be_chance_is_said_to_be(tmp_path):
    chance = {**SUMMARY, "avs_accuracy": 0.55, "avs_accuracy_interval": [0.43, 0.66]}
    text = page_of(tmp_path, {"summary.json": chance}).text
    assert "guessing is right in 50%. That cannot be told from guessing." in text
    assert "shifted by some seconds" in text  # There is no config to say how many.


def test_a_fine_tuned_run(tmp_path):
    summary = {"steps": 300, "seconds": 63.5, "top1": 0.75, "top1_interval": [0.7, 0.8], "top5": 1.0, "videos": 128}
    config = {**CONFIG, "task": "action", "data": {**CONFIG["data"], "eval_split": "test3"}}
    files = {"summary.json": summary, "config.json": config, "action_test3_confusion.png": PNG}
    page = page_of(tmp_path, {**files, "action_test3_per_class.json": [{"label": 0}] * 8})
    assert "about 128 videos" in page.text and "which action of 8 is this?" in page.text
    assert "right in 75.0% of the cases (95% interval 70.0–80.0%); guessing is right in 12.5%." in page.text
    assert "64 s" in page.text and "cmav.finetune" in page.text and "in sync" not in page.text
    assert len(page.sources("img")) == 1


def test_a_doubt_about_maps_is_passed_on(tmp_path):
    page = page_of(tmp_path, {"localization_validation.json": {**localization(), "doubt": "similarity: <nothing>"}})
    assert "similarity: <nothing>." in page.text


def test_the_table_of_localization(tmp_path):
    page = page_of(tmp_path, {"localization_validation.json": localization()})
    rows = page.rows()
    assert rows["map"] == [
        "cIoU@.5 ↑",
        "AUC ↑",
        "pixel AP ↑",
        "sources found ↑",
        "false alarms ↓",
    ]  # none that is empty
    assert rows["cam 3 of 52 undecided"] == [
        "25.0 23.0–27.0",
        "31.2 29.2–33.2",
        "35.0 33.0–37.0",
        "41.5",
        "25.0 10.0–50.0",
    ]
    assert rows["attention"] == ["25.0 23.0–27.0", "31.2 29.2–33.2", "40.4 38.4–42.4", "–", "–"]
    order = [name for name in rows if name != "map"]
    assert order == [
        *("the network, by method", "cam 3 of 52 undecided", "attention"),
        *("the same network before training", "cam, untrained"),
        *("trivial baselines", "whole image", "centred disc", "upper bound"),
    ]
    html = (tmp_path / "report.html").read_text()
    assert html.count('class="best"') == 1 and "<b>attention</b>" in html and "<b>40.4</b>" in html
    assert "52 clips in which something that is seen sounds, and 12 in which nothing" in page.text
    assert "silent objects lit" not in page.text and "sounding objects that are found" in page.text


@pytest.mark.parametrize("key", ["sounding_above_silent", "told_from_silent"])
def test_numbers_under_their_earlier_names(tmp_path, key):
    rows = [localization_row("cam", "network", 0.5, **{key: 0.8125})]
    table = page_of(tmp_path, {"localization_validation.json": localization(rows=rows)}).rows()
    assert dict(zip(table["map"], table["cam"], strict=True))["sounding above silent ↑"] == "81.2"


def test_the_best_method_is_compared_by_intervals(tmp_path):
    text = page_of(tmp_path, {"localization_validation.json": localization()}).text
    assert "the best of its methods is “attention”, with 40.4." in text
    assert "of the trivial baselines is “centred disc”, with 20.0: that is clearly less." in text  # not the upper bound
    assert "before training is “cam, untrained”, with 38.0: that is less, but the intervals overlap." in text
    rows = [localization_row("cam", "network", 0.15), localization_row("centred disc", "trivial", 0.2)]
    text = page_of(tmp_path, {"localization_validation.json": localization(rows=rows)}).text
    assert "“centred disc”, with 20.0: the trained network is no better." in text
    assert "before training is" not in text


def test_only_rows_that_do_not_listen(tmp_path):
    rows = [localization_row("centred disc", "trivial", 0.2)]
    page = page_of(tmp_path, {"localization_test.json": localization(rows=rows, split="test", clips_without=0)})
    assert "best of its methods" not in page.text and "centred disc" in page.rows()
    assert "in which nothing that is seen does" not in page.text


def test_heads(tmp_path):
    heads = [{"sources": 2, "clips": 20, "combined": 1.3, "by_any_head": 1.625, "told_apart": 1.2}]
    page = page_of(tmp_path, {"localization_validation.json": localization(heads=heads)})
    assert page.rows()["2"] == ["20", "1.30", "1.62", "1.20"]
    assert "Do the attention heads" not in page_of(tmp_path, WHOLE_RUN).text


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
    with pytest.raises(UserError, match=r"nothing to report on(.|\n)*python -m cmav\.main"):
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


def test_names_of_methods_are_explained_where_they_are_used(tmp_path):
    text = page_of(tmp_path, {"localized/dog.similarity.mp4": MP4, "config.json": CONFIG}).text
    assert "how alike the network finds" in text and "attention heads" not in text and "from blue" in text
