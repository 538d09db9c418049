"""How the C library's allocator treats large buffers that are freed."""

import ctypes
import platform

# Parameters of mallopt(3), of glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_MOST = 2**31 - 1


def keep_freed(*, one_arena: bool) -> None:
    """Makes glibc keep large buffers for the next of their size; does nothing where there is another C library.

    By default it gives them back to the operating system, which makes each page zero anew whenever it is touched: a
    third of a training step's time on CPU.

    Args:
      one_arena: for all threads. The arenas of other threads than the first hold nothing large; but where many threads
        allocate much that is small, they would wait for each other.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    if not libc.mallopt(_MMAP_THRESHOLD, _MOST):  # More than older ones allow.
        libc.mallopt(_MMAP_THRESHOLD, 2**25)
    libc.mallopt(_TRIM_THRESHOLD, _MOST)
    if one_arena:
        libc.mallopt(_ARENA_MAX, 1)
