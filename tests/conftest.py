"""What all tests share: XLA compiles once for all, without optimization; malloc is as it is. So in what they start."""

import os
import tempfile

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "cmav-tests-jax-cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Most of the tests' time would go into optimizing what then runs for milliseconds. A quarter of it is left with these.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
# A process has hundreds of networks one after another here, and would keep the most memory that any of them took. Any
# variable of malloc's has cmav leave malloc alone; this one's value is what it is without.
os.environ.setdefault("MALLOC_PERTURB_", "0")

# What takes minutes begins first: at the end it would run alone, while the other cores wait.
_LONGEST = ("test_processes.py", "test_buckets.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in _LONGEST)
