"""The table of localization: its rows, its columns, and what is said of them."""

import pytest

from tests.reporting.sample_run import CONFIG, MP4, WHOLE_RUN, localization, localization_row, page_of


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


def test_only_trivial_rows(tmp_path):
    rows = [localization_row("centred disc", "trivial", 0.2)]
    page = page_of(tmp_path, {"localization_test.json": localization(rows=rows, split="test", clips_without=0)})
    assert "best of its methods" not in page.text and "centred disc" in page.rows()
    assert "in which nothing that is seen does" not in page.text


def test_how_many_dark_maps_the_mass_in_boxes_leaves_out(tmp_path):
    ends = {"mass_in_boxes_low": 0.2, "mass_in_boxes_high": 0.3}
    rows = [
        localization_row("cam", "network", 0.5, mass_in_boxes=0.25, dark=3, **ends),
        localization_row("attention", "network", 0.4, mass_in_boxes=0.25, dark=0, **ends),
        localization_row("cam, untrained", "untrained", 0.3, mass_in_boxes=None, dark=52),
    ]
    table = page_of(tmp_path, {"localization_validation.json": localization(rows=rows)}).rows()
    masses = [table[name][-1] for name in ("cam", "attention", "cam, untrained")]
    assert masses == ["25.0 20.0–30.0 without 3 dark", "25.0 20.0–30.0", "– without 52 dark"]


def test_heads(tmp_path):
    heads = [{"sources": 2, "clips": 20, "combined": 1.3, "by_any_head": 1.625, "told_apart": 1.2}]
    page = page_of(tmp_path, {"localization_validation.json": localization(heads=heads)})
    assert page.rows()["2"] == ["20", "1.30", "1.62", "1.20"]
    assert "Do the attention heads" not in page_of(tmp_path, WHOLE_RUN).text


def test_names_of_methods_are_explained_where_they_are_used(tmp_path):
    text = page_of(tmp_path, {"localized/dog.similarity.mp4": MP4, "config.json": CONFIG}).text
    assert "how alike the network finds" in text and "attention heads" not in text and "from blue" in text
