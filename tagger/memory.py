"""What the process holds and gives back, of the device's memory and the system's."""

import ctypes
import gc
import sys
from functools import cache

# Parameters of glibc's mallopt, from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 28  # bytes; a pass of Camie's model takes and leaves some 120 MB


def free_memory() -> None:
    """Give back to the device and the system what is no longer used."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


@cache
def keep_memory() -> None:
    """Let what one pass of a model leaves serve the next one.

    glibc gives large blocks back at once, and the system clears every page that is asked for again: some 12,000 of
    them in each pass. `free_memory` gives back what is kept.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, _KEPT)
            mallopt(_TRIM_THRESHOLD, _KEPT)
