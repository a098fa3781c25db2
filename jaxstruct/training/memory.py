"""How the process asks the system for memory. What may be added: another allocator's options."""

import ctypes
import platform

# glibc, malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed() -> bool:
    """Lets the process keep what it frees, for its next arrays; says whether that was possible.

    XLA takes fresh memory for the temporaries of each call on a CPU. glibc hands large pieces back
    to the system at once, which then has to map and to clear their pages again: as much time as the
    arithmetic of a convolutional layer takes. What was kept is not there for other processes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # A threshold of -1 is none: one program's temporaries can be larger than an int.
    options = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 2**26, _ARENA_MAX: 1}
    taken = [mallopt(option, value) for option, value in options.items()]
    return taken == [1] * len(options)
