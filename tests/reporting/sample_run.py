"""What a run leaves, as a report reads it, and the page that is made of it, taken apart."""

import json
from html.parser import HTMLParser

from cmav import config as cmav_config
from cmav import report
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
