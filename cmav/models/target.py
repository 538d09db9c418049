"""The platform that a network is compiled for."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


def backend() -> str:
    """ "cpu", "gpu" or "tpu": JAX's own backend, or the one that is compiled for ahead of time."""
    return _platform.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """What is traced meanwhile is for this platform, "gpu" or "tpu", wherever it is traced."""
    token = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(token)
