"""The linear probe: nothing of the test side reaches it, and a video's clips stay together."""

import numpy as np
import pytest
from sklearn import svm as sklearn_svm
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold

from cmav.errors import UserError
from cmav.evals import svm
from cmav.evals.svm import Features, LinearProbe, choose_c

CS = (1e-3, 1e-2, 1e-1, 1.0)


def make_features(videos_per_class=(6, 6, 6), num_clips=4, size=8, seed=0, scale=1.0):
    """Clips around their video's point, and that around its class's."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(videos_per_class)), videos_per_class)
    centres = np.random.default_rng(99).normal(size=(len(videos_per_class), size))
    videos = centres[labels] + 0.8 * rng.normal(size=(len(labels), size))
    clips = videos[:, None] + 0.5 * rng.normal(size=(len(labels), num_clips, size))
    return Features((scale * clips).astype(np.float32), labels)


def test_decision_is_the_mean_of_single_clips():
    """Against a loop over classes and clips, with scikit-learn's SVM alone."""
    train, test = make_features(), make_features(seed=1)
    probe = LinearProbe.fit(train, [0.1])
    flat = train.values_NxVxF.reshape(-1, 8)
    mean, deviation = flat.mean(axis=0), flat.std(axis=0)
    expected = np.zeros((len(test), 3))
    for label in range(3):
        one = sklearn_svm.LinearSVC(C=0.1, dual=False).fit(
            (flat - mean) / deviation, np.repeat(train.labels_N, 4) == label
        )
        for video in range(len(test)):
            scores = [one.decision_function(((clip - mean) / deviation)[None])[0] for clip in test.values_NxVxF[video]]
            expected[video, label] = sum(scores) / len(scores)
    np.testing.assert_allclose(probe.scores(test.values_NxVxF, 3), expected, atol=2e-3)
    accuracy = (probe.scores(test.values_NxVxF, 3).argmax(axis=1) == test.labels_N).mean()
    assert accuracy > 0.8


def test_standardised_by_training_statistics_alone():
    train = make_features(scale=50.0)
    probe = LinearProbe.fit(train, [0.1])
    scaler = probe.pipeline[0]
    np.testing.assert_allclose(scaler.mean_, train.values_NxVxF.reshape(-1, 8).mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(scaler.scale_, train.values_NxVxF.reshape(-1, 8).std(axis=0), rtol=1e-4)
    # A video's score does not depend on which others it is tested with.
    test = make_features(seed=1, scale=50.0)
    together = probe.scores(test.values_NxVxF, 3)
    np.testing.assert_allclose(probe.scores(test.values_NxVxF[:1], 3), together[:1], rtol=1e-6)


def test_a_constant_feature_is_harmless():
    train = make_features()
    train.values_NxVxF[..., 0] = 3.0
    assert np.isfinite(LinearProbe.fit(train, [0.1]).scores(train.values_NxVxF, 3)).all()


def test_all_clips_of_a_video_are_on_one_side(monkeypatch):
    """Every fit during the choice of C is spied upon: its clips are whole videos, of every class."""
    train = make_features(videos_per_class=(3, 4, 7))
    owner = {clip.tobytes(): video for video, clips in enumerate(train.values_NxVxF) for clip in clips}
    fits = []
    original = StratifiedGroupKFold.split

    def spy(self, x, y=None, groups=None):
        for inside, outside in original(self, x, y, groups):
            sides = [[owner[x[i].tobytes()] for i in side] for side in (inside, outside)]
            fits.append((*map(set, sides), {int(y[i]) for i in inside}, {int(y[i]) for i in outside}))
            yield inside, outside

    monkeypatch.setattr(StratifiedGroupKFold, "split", spy)
    choose_c(train, CS)
    assert len(fits) == 3  # as many as the rarest class has videos
    for inside, outside, classes_inside, classes_outside in fits:
        assert not inside & outside and inside | outside == set(range(14))
        assert classes_inside == classes_outside == {0, 1, 2}


def test_grouping_matters():
    """Clips of a video say more of each other than of their class: without groups, C would come out otherwise."""
    rng = np.random.default_rng(3)
    labels = np.arange(20) % 2
    videos = 3.0 * rng.normal(size=(20, 60)) + 0.4 * (2 * labels - 1)[:, None]
    train = Features((videos[:, None] + 0.01 * rng.normal(size=(20, 5, 60))).astype(np.float32), labels)
    clips, clip_labels, _ = svm._clips(train)
    any_clips = StratifiedKFold(5, shuffle=True, random_state=0)
    ungrouped = GridSearchCV(svm._classifier(1.0), {"linearsvc__C": CS}, cv=any_clips).fit(clips, clip_labels)
    assert ungrouped.best_score_ > 0.98  # knows the videos by sight
    grouped = {c: _held_out_accuracy(train, c) for c in CS}
    assert max(grouped.values()) < 0.95
    assert grouped[choose_c(train, CS)] == max(grouped.values())


def _held_out_accuracy(train, c):
    clips, labels, videos = svm._clips(train)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(clips, labels, videos)
    return np.mean([svm._classifier(c).fit(clips[a], labels[a]).score(clips[b], labels[b]) for a, b in folds])


def test_single_videos_take_no_part_in_the_choice():
    train = make_features(videos_per_class=(5, 5, 1))
    assert choose_c(train, CS) == choose_c(train[train.labels_N < 2], CS)
    # But the SVM knows their class.
    assert LinearProbe.fit(train, CS).scores(train.values_NxVxF, 3)[-1].argmax() == 2


def test_one_video_of_each_class_leaves_no_choice(caplog):
    assert choose_c(make_features(videos_per_class=(1, 1, 1)), CS) == 1e-1
    assert "too few training videos" in caplog.text


def test_one_class_is_an_error():
    with pytest.raises(UserError, match="at least two classes"):
        LinearProbe.fit(make_features(videos_per_class=(4,)), CS)


def test_two_classes_of_five():
    train = make_features(videos_per_class=(5, 5))
    shifted = Features(train.values_NxVxF, train.labels_N * 3)
    scores = LinearProbe.fit(shifted, [0.1]).scores(train.values_NxVxF, 5)
    assert scores.shape == (10, 5) and np.isneginf(scores[:, [1, 2, 4]]).all()
    assert (scores.argmax(axis=1) == shifted.labels_N).mean() > 0.9
