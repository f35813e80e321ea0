"""Run a graph on the CPU: ids of several texts in, a unit vector of each out."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nearhit.errors import EncoderError


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Load a graph to run on the CPU.

    Raises:
        EncoderError: the file cannot be loaded.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A thread that waits by spinning doubles the CPU time where cores are shared.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:
        raise EncoderError(
            f"{path} must be a graph that onnxruntime {onnxruntime.__version__} loads, got "
            f"{type(error).__name__}; delete its folder, it is built again"
        ) from error


def embed(
    session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]]
) -> NDArray[np.float32]:
    """Run the graph.

    Args:
        session: from `open_session`.
        rows: token ids of each text; shorter rows are padded and masked.

    Returns:
        float32 (len(rows), dimension), rows of unit length.
    """
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    result: Any = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return np.asarray(result, dtype=np.float32)


def give_back_memory() -> None:
    """Return to the system what loading a graph left free in the C heap: 23 MB of fp16 L6.

    Only glibc has the call; elsewhere nothing is done.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
