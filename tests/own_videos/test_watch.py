"""Batches over the borders of videos."""

import numpy as np
import pytest

from cmav.own_videos import watch


def items_of(lengths):
    """Videos of so many windows each: (video, window) with an example, and after each video its end."""
    for video, length in enumerate(lengths):
        for window in range(length):
            yield (video, window), {"x": np.full(3, 10 * video + window)}
        yield f"end of {video}", None


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 20])
def test_every_answer_goes_to_its_window(batch_size):
    asked = []

    def answer(batch):
        asked.append(batch["x"].shape)
        return {"double": 2 * batch["x"]}

    found = list(watch.in_batches(items_of([3, 0, 1, 5]), answer, batch_size))
    assert [tag for tag, _ in found] == [tag for tag, _ in items_of([3, 0, 1, 5])]
    for (tag, said), (_, example) in zip(found, items_of([3, 0, 1, 5]), strict=True):
        if example is None:
            assert said is None, tag
        else:
            np.testing.assert_array_equal(said["double"], 2 * example["x"])
    assert asked == [(batch_size, 3)] * -(-9 // batch_size)  # the last one is padded


def test_nothing_to_ask():
    def never(batch):
        raise AssertionError("there is no example to ask about")

    assert list(watch.in_batches(items_of([0, 0]), never, 4)) == [("end of 0", None), ("end of 1", None)]
    assert list(watch.in_batches([], never, 4)) == []


def test_a_batch_is_decoded_while_the_one_before_is_computed():
    order = []

    def items():
        for number in range(4):
            order.append(f"decode {number}")
            yield number, {"x": np.zeros(1)}

    def answer(batch):
        order.append("ask")
        return batch["x"]

    for tag, _ in watch.in_batches(items(), answer, 1):
        order.append(f"got {tag}")
    assert order.index("decode 1") < order.index("got 0") and order.index("got 0") < order.index("decode 3")
