"""What the process holds is what it says."""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from tagger import memory
from tagger.camie import load_model
from tagger.context import TagKeys
from tagger.release import read
from tests.tagger import releases


def resident(tensor: torch.Tensor) -> int:
    """Kilobytes of the mapping that a tensor lies in."""
    found = inside = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            begin, end = (int(number, 16) for number in line.split()[0].split("-"))
            inside = begin <= tensor.data_ptr() < end
        elif inside and line.startswith("Rss:"):
            found = int(line.split()[1])
    return found


def test_a_mapped_table_s_pages_leave_and_come_back(tmp_path: Path) -> None:
    numbers = np.arange(1_000_000, dtype=np.float32)
    numbers.tofile(tmp_path / "table")
    table = torch.from_file(str(tmp_path / "table"), shared=False, size=1_000_000)
    if not Path("/proc/self/maps").exists():  # only Linux tells, so elsewhere nothing is ever left
        assert not memory.is_mapped(table)
        return
    assert memory.is_mapped(table)
    part = table[500:900_000]
    assert part.max() == 899_999
    before = resident(table)
    assert before > 3000
    memory.leave_pages(part)
    assert resident(table) < before / 4
    np.testing.assert_array_equal(table.numpy(), numbers)
    assert not memory.is_mapped(torch.ones(1_000_000))


def test_only_a_mapped_embedding_is_left_after_its_rows_were_read(tmp_path: Path) -> None:
    """One converted from half precision lies in memory of its own, which would be gone for good."""
    for dtype, mapped in (("float32", True), ("float16", False)):
        folder = releases.write(tmp_path / dtype, config={"weights": {"file": "model.safetensors", "dtype": dtype}})
        model = load_model(read(folder.folder), torch.device("cpu"), torch.float32)
        keys, before = TagKeys(model), model.tag_embedding.weight.clone()
        assert keys.mapped == (mapped and Path("/proc/self/maps").exists())
        with torch.inference_mode():
            keys(torch.arange(len(before))[None])
        torch.testing.assert_close(model.tag_embedding.weight, before)


# Bytes that the process has more of than before: when 64 MB were kept, and when they were given back.
_HELD = """
import os
from pathlib import Path
import numpy as np
from tagger import memory

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

np.ones(8 << 20)
before = held()
memory.keep_memory()
memory.keep_memory()
np.ones(8 << 20)
kept = held() - before
memory.free_memory()
print(kept, held() - before)
"""


def test_memory_is_kept_and_given_back() -> None:
    if platform.libc_ver()[0] != "glibc":  # elsewhere the system's own way stays as it is
        return
    said = subprocess.run([sys.executable, "-c", _HELD], capture_output=True, text=True, check=True).stdout
    kept, given_back = map(int, said.split())
    assert kept > 60_000_000 and given_back < 4_000_000
