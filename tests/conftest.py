"""How XLA compiles in the tests, and in the processes that they start: once for all, and without optimization."""

import os
import tempfile

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "cmav-tests-jax-cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Most of the tests' time would go into optimizing what then runs for milliseconds. A quarter of it is left with these.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")

# What takes minutes begins first: at the end it would run alone, while the other cores wait.
_LONGEST = ("test_processes.py", "test_buckets.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in _LONGEST)
