"""One compilation cache for all tests: most of them compile the same tiny network."""

import os
import tempfile

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "cmav-tests-jax-cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

# What takes minutes begins first: at the end it would run alone, while the other cores wait.
_LONGEST = ("test_processes.py", "test_buckets.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in _LONGEST)
