"""What a network was asked in training and how often it was right, in a sentence."""

from tests.reporting.sample_run import CONFIG, PNG, RETRIEVAL, SUMMARY, WHOLE_RUN, page_of


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


def test_an_accuracy_that_could_be_chance_is_said_to_be(tmp_path):
    chance = {**SUMMARY, "avs_accuracy": 0.55, "avs_accuracy_interval": [0.43, 0.66]}
    text = page_of(tmp_path, {"summary.json": chance}).text
    assert "guessing is right in 50%. That cannot be told from guessing." in text
    assert "shifted by some seconds" in text  # There is no config to say how many.


def test_a_run_that_did_not_see_all_is_said_to_be_a_control(tmp_path):
    assert "a control" not in page_of(tmp_path / "all", WHOLE_RUN).text
    for key in ("covered", "shown"):
        config = {**CONFIG, "data": {**CONFIG["data"], key: [[0.5, 0.0, 1.0, 1.0]]}}
        text = page_of(tmp_path / key, {**WHOLE_RUN, "config.json": config}).text
        assert f"a control: parts of its pictures were covered (config.data.{key}=((0.5, 0.0, 1.0, 1.0),))." in text
    folder = tmp_path / "retrieval"
    assert "a control" in page_of(folder, {"retrieval_validation.json": RETRIEVAL, "config.json": config}).text


def test_a_fine_tuned_run(tmp_path):
    summary = {"steps": 300, "seconds": 63.5, "top1": 0.75, "top1_interval": [0.7, 0.8], "top5": 1.0, "videos": 128}
    config = {**CONFIG, "task": "action", "data": {**CONFIG["data"], "eval_split": "test3"}}
    files = {"summary.json": summary, "config.json": config, "action_test3_confusion.png": PNG}
    page = page_of(tmp_path, {**files, "action_test3_per_class.json": [{"label": 0}] * 8})
    assert "about 128 videos" in page.text and "which action of 8 is this?" in page.text
    assert "right in 75.0% of the cases (95% interval 70.0–80.0%); guessing is right in 12.5%." in page.text
    assert "64 s" in page.text and "cmav.finetune" in page.text and "in sync" not in page.text
    assert len(page.sources("img")) == 1


def test_its_own_sound_or_another_videos(tmp_path):
    names = {"accuracy": 0.75, "accuracy_interval": [0.6, 0.85], "accuracy_aligned": 0.7, "accuracy_other": 0.8}
    summary = {**SUMMARY, **{f"avc_{key}": value for key, value in names.items()}, "avc_clips": 63}
    page = page_of(tmp_path, {"summary.json": summary, "correspondence_validation_per_label.png": PNG})
    _, asked = page.text.split("about 63 clips that were kept out of its training: ")
    assert asked.startswith("is this the sound of this video, or of another one? It was right in 75.0% of the cases")
    assert "right when another video's" in asked and "about 64 clips" in page.text
    assert "Its own sound or another video's?" in asked and len(page.sources("img")) == 1
