"""The peers' test of frozen features: standardise, linear SVM, mean decision score over a video's clips.

As in AVTS, XDC and AVID ("Look, Listen, and Attend" compares with the first two). The SVM's C is chosen by
cross-validation on the training videos alone, in which all clips of a video lie on the same side; test videos come in
only when everything is settled.
"""

import dataclasses
from collections.abc import Sequence

import joblib
import numpy as np
from absl import logging
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from cmav.errors import UserError

MAX_FOLDS = 5


@dataclasses.dataclass(frozen=True)
class Features:
    """What a network sees in the clips of labelled videos. N videos, V clips of each, F features."""

    values_NxVxF: np.ndarray  # float32
    labels_N: np.ndarray  # int64, not negative

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitem__(self, videos: np.ndarray) -> "Features":
        return Features(self.values_NxVxF[videos], self.labels_N[videos])

    @classmethod
    def join(cls, parts: Sequence["Features"]) -> "Features":
        return cls(
            np.concatenate([part.values_NxVxF for part in parts]), np.concatenate([part.labels_N for part in parts])
        )


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """A standardiser and a linear SVM, one class against the rest."""

    pipeline: Pipeline
    c: float

    @classmethod
    def fit(cls, train: Features, cs: Sequence[float]) -> "LinearProbe":
        """Chooses C among `cs` and fits.

        Raises:
          UserError: where the videos are of fewer than two classes.
        """
        check_classes(train.labels_N)
        c = choose_c(train, cs)
        clips, labels, _ = _clips(train)
        return cls(_classifier(c).fit(clips, labels), c)

    def scores(self, values_NxVxF: np.ndarray, num_classes: int) -> np.ndarray:
        """Decision scores of videos, the mean over their clips: [N, num_classes]; -inf for a class never trained."""
        num_videos, num_clips, size = values_NxVxF.shape
        decisions = self.pipeline.decision_function(values_NxVxF.reshape(-1, size))
        if decisions.ndim == 1:  # Of two classes scikit-learn gives only the second one's score.
            decisions = np.stack([-decisions, decisions], axis=1)
        scores = np.full((num_videos, num_classes), -np.inf)
        scores[:, self.pipeline.classes_] = decisions.reshape(num_videos, num_clips, -1).mean(axis=1)
        return scores


def check_classes(labels_N: np.ndarray) -> None:
    """Raises a `UserError` where training videos are of fewer than two classes."""
    if len(np.unique(labels_N)) < 2:
        raise UserError("a probe needs training videos of at least two classes.")


def choose_c(train: Features, cs: Sequence[float]) -> float:
    """The C with the best accuracy on held-out clips of the training videos; of equals, the least.

    There are up to five folds, no more than the rarest class has videos, so that each fold has one of every class. A
    class with a single video cannot be on both sides and takes no part. Where fewer than two classes are left, nothing
    can be compared, and the middle one of `cs` is taken.
    """
    cs = sorted(cs)
    classes, videos_C = np.unique(train.labels_N, return_counts=True)
    comparable = classes[videos_C > 1]
    if len(cs) == 1 or len(comparable) < 2:
        c = cs[len(cs) // 2]
        if len(cs) > 1:
            logging.warning("too few training videos of each class to choose the probe's C: taking %g", c)
        return c
    clips, labels, videos = _clips(train[np.isin(train.labels_N, comparable)])
    folds = StratifiedGroupKFold(min(MAX_FOLDS, videos_C[videos_C > 1].min()), shuffle=True, random_state=0)
    search = GridSearchCV(_classifier(cs[0]), {"linearsvc__C": cs}, cv=folds, n_jobs=-1, refit=False)
    with joblib.parallel_config(backend="threading"):  # The SVM lets go of the interpreter while it works.
        search.fit(clips, labels, groups=videos)
    c = search.best_params_["linearsvc__C"]
    if c in (cs[0], cs[-1]):
        logging.info("the probe's C is %g, at an end of those to choose from: %s", c, cs)
    return c


def _classifier(c: float) -> Pipeline:
    # The standardiser too sees the training side only, in each fold and at the end.
    return make_pipeline(StandardScaler(), LinearSVC(C=c, dual="auto", random_state=0, max_iter=10_000))


def _clips(features: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clip by clip: values [N * V, F], labels [N * V], and the number of each clip's video [N * V]."""
    num_videos, num_clips, size = features.values_NxVxF.shape
    values = features.values_NxVxF.reshape(-1, size)
    return values, np.repeat(features.labels_N, num_clips), np.repeat(np.arange(num_videos), num_clips)
