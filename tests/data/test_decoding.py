"""Threads that read ahead; processes that read videos, some of which do not survive it."""

import threading
import time

import pytest

from cmav.data import decoding


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_ahead_keeps_the_order(num_threads, depth):
    iterators = (iter(range(10 * k, 10 * k + k)) for k in range(6))
    found = [list(items) for items in decoding.ahead(iterators, num_threads, depth)]
    assert found == [list(range(10 * k, 10 * k + k)) for k in range(6)]


def test_ahead_works_on_several_at_a_time():
    """The first three only go on together."""
    together = threading.Barrier(3, timeout=20)

    def wait_for_the_others(number):
        together.wait()
        yield number

    assert [list(items) for items in decoding.ahead(map(wait_for_the_others, range(3)), 3, 1)] == [[0], [1], [2]]


def test_an_error_is_that_of_its_iterator_alone():
    def broken():
        yield 1
        raise OSError("gone")

    found = []
    for items in decoding.ahead(iter([iter([0]), broken(), iter([2])]), 2, 1):
        try:
            found.extend(items)
        except OSError as error:
            found.append(str(error))
    assert found == [0, 1, "gone", 2]


def test_letting_go_ends_the_threads():
    def endless():
        while True:
            time.sleep(0.001)
            yield 1

    videos = decoding.ahead((endless() for _ in range(5)), 2, 1)
    assert next(next(videos)) == 1
    videos.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cmav-videos")]
