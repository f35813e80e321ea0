"""A clock that a test can set, for a whole process: first on PYTHONPATH, it is loaded at its start.

`time.time` then adds the seconds in the file that CLOCK_FILE names, read at every call. The
monotonic clock stays, as it does when a real clock is set. C code and `datetime.now` see the real
time.
"""

import os
import time
from pathlib import Path

_path = Path(os.environ["CLOCK_FILE"])
_real = time.time


def _shifted() -> float:
    try:
        return _real() + float(_path.read_text("ascii") or 0)
    except (OSError, ValueError):
        return _real()


time.time = _shifted
