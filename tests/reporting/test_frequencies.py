"""The table of attention over frequencies, beside the energy."""

import base64
import json

from cmav import config as cmav_config
from cmav.training import run_config
from tests.reporting.sample_run import (
    FREQUENCIES,
    PNG,
    page_of,
)


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
