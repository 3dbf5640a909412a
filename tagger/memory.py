"""What the process holds and gives back, of the device's memory and the system's."""

import ctypes
import gc
import mmap
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Parameters of glibc's mallopt, from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 28  # bytes; a pass of Camie's model takes and leaves some 120 MB


def free_memory() -> None:
    """Give back to the device and the system what is no longer used."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim()


def trim() -> None:
    """Give back to the system what was allocated and is free."""
    if sys.platform == "linux":
        malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if malloc_trim is not None:
            malloc_trim(0)


def is_mapped(tensor: "Tensor") -> bool:
    """Whether a tensor's numbers lie in a file, not in memory of the process's own. Only Linux says so."""
    try:
        maps = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return False
    first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    for line in maps:
        place, _, _, _, inode, *_ = line.split()
        begin, end = (int(number, 16) for number in place.split("-"))
        if begin <= first and last <= end:
            return inode != "0"
    return False


def leave_pages(tensor: "Tensor") -> None:
    """Take the pages of a tensor that `is_mapped` out of this process; they come back when they are read again.

    A few rows here and there of a large table bring in far more: the system maps their surroundings, too.
    """
    first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


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
