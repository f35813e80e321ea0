"""CPU seconds and resident memory of processes and of all that they started (Linux)."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def family(roots: Iterable[int]) -> list[int]:
    """Return the processes and their descendants, as they are now."""
    children: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(path.name))
        if fields:
            children[int(fields[1])].append(int(path.name))
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.append(pid)
            waiting += children[pid]
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """Return the seconds of CPU that the processes have used, in user and system mode."""
    used = [_stat(pid) for pid in pids]
    return sum(int(fields[11]) + int(fields[12]) for fields in used if fields) / _TICKS


def resident_mb(pids: Iterable[int]) -> float:
    """Return their resident memory, pages that they share counted once for each."""
    total_kb = 0
    for pid in pids:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
            total_kb += next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return total_kb / 1024


def _stat(pid: int) -> Sequence[str]:
    """Fields of /proc/PID/stat from the state on; none when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return ()
