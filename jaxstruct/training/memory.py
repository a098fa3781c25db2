"""How the process asks the system for memory. What may be added: another allocator's options."""

import ctypes
import platform

# glibc, malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed() -> bool:
    """Lets the process keep freed memory for its next arrays; returns whether that was possible.

    On a CPU, XLA allocates the temporaries of each call anew. glibc returns large blocks to the
    system at once, and the system has to map and clear their pages again, which takes as much time
    as the arithmetic of a convolutional layer. Memory that is kept is not available to other
    processes.

    It has to be called before JAX computes: a thread that has allocated keeps its own part of the
    heap, which is too small for such blocks, and glibc maps them one by one again.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # A threshold of -1 is none: one program's temporaries can be larger than an int.
    options = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 2**26, _ARENA_MAX: 1}
    taken = [mallopt(option, value) for option, value in options.items()]
    return taken == [1] * len(options)
