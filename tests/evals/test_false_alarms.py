"""The rate of false alarms, against scikit-learn's ROC curve."""

import numpy as np
import pytest
from sklearn import metrics as sk

from cmav.evals.false_alarms import false_alarms


def test_against_the_roc_curve():
    rng = np.random.default_rng(0)
    for count in (1, 20, 47):
        seen, unseen = rng.normal(1, 1, count).round(1), rng.normal(0, 1, 30).round(1)
        alarms = false_alarms(seen, unseen)
        labels = np.repeat([1, 0], [count, 30])
        false, true, _ = sk.roc_curve(labels, np.append(seen, unseen), drop_intermediate=False)
        assert alarms.rate == pytest.approx(false[np.argmax(true >= 0.95)])
        assert alarms.low <= alarms.rate <= alarms.high
        assert (seen >= alarms.threshold).mean() >= 0.95


def test_threshold_lets_just_the_wanted_share_pass():
    alarms = false_alarms(np.arange(100), [44, 45, 46], true_positive_rate=0.55)
    assert alarms.threshold == 45
    assert alarms.rate == pytest.approx(2 / 3)


def test_needs_clips_of_both_kinds():
    with pytest.raises(ValueError, match="clips"):
        false_alarms([1.0], [])
