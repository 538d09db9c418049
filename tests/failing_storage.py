"""Storage that fails, by what `tf.io.gfile` really raises: for tests of whoever reads."""

import random

import pytest
import tensorflow as tf

from cmav.data import storage


def kernel_error() -> tf.errors.OpError:
    """What `tf.io.gfile` makes of an I/O error (EIO), which the kernel gives for memory that is not there."""
    with tf.io.gfile.GFile("/proc/self/mem", "rb") as file, pytest.raises(tf.errors.UnknownError) as raised:
        file.read(1)
    assert "Input/output error" in raised.value.message
    return raised.value


def server_error() -> tf.errors.OpError:
    """What `tf.io.gfile` makes of an answer 503 of a bucket."""
    return tf.errors.UnavailableError(
        None, None, "Error executing an HTTP request: HTTP response code 503 with body 'Service Unavailable'"
    )


def fail(monkeypatch, error: tf.errors.OpError, share: float) -> list[str]:
    """Makes the first use of storage fail and then a share of all, by chance. Returns what failed, as it grows.

    There are 20 tries, between which waiting takes no time.
    """
    failed: list[str] = []
    chance = random.Random(0)

    def failing(name: str, original):
        def use(*args, **kwargs):
            if not failed or chance.random() < share:
                failed.append(name)
                raise error
            return original(*args, **kwargs)

        return use

    uses = (storage, "open_to_read"), (tf.io.gfile.GFile, "read"), (tf.io.gfile, "stat"), (tf.io.gfile, "listdir")
    for owner, name in uses:
        monkeypatch.setattr(owner, name, failing(name, getattr(owner, name)))
    monkeypatch.setattr(storage, "DELAYS", (0.0,) * 19)
    return failed
