import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import threading
import numpy as np
from cmav import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def allocate():
    np.ones(100_000_000, np.uint8)

if {keep}:
    memory.keep_freed(one_arena={one_arena})
before = resident()
thread = threading.Thread(target=allocate)
thread.start()
thread.join()
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt's parameters are glibc's")
@pytest.mark.parametrize(
    ("keep", "one_arena", "kept"), [(False, False, False), (True, False, False), (True, True, True)]
)
def test_what_a_thread_frees_is_kept_where_all_share_an_arena(keep, one_arena, kept):
    program = _PROGRAM.format(keep=keep, one_arena=one_arena)
    grown = int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
    assert (grown > 90_000_000) == kept
