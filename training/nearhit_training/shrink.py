r"""Write a trained verifier as what ships: its changes to the encoder's base, in 4 bits a number.

    nearhit-train shrink --checkpoint build/cross/checkpoint.pt --out build/verifier

All weights were trained, and 10 million numbers are too many to ship as they are (LOG.md has what
products of low rank lose). Biases and normalisations are few and kept whole; the word, position and
type tables were never trained. `nearhit-train calibrate` then adds the calibration.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from nearhit.encoder.recipe import Recipe, find_sources
from nearhit.encoder.weights import BASE_FILES, DEFAULT_BASE, base_folder, read_tensors
from nearhit.verifier.graph import HEAD
from nearhit.verifier.weights import CODES, CONFIG_FILE, SCALES, WEIGHTS_FILE, pack, unpack
from nearhit_training.files import write_json

# Until it is calibrated nothing is served by it: no threshold keeps any precision.
UNCALIBRATED: Final[Mapping[str, Any]] = {
    "logit": 1.0,
    "similarity": 0.0,
    "shift": 0.0,
    "floor": 0.0,
    "thresholds": {},
}
_BODY: Final = "bert."


def shrink(
    trained: Mapping[str, NDArray[np.float32]], base: Mapping[str, NDArray[np.float32]]
) -> tuple[dict[str, NDArray[Any]], float]:
    """Pack what was trained.

    Args:
        trained: trained weights by the base's names, and the head's.
        base: the base's weights.

    Returns:
        Tensors to ship, and the error as a share of the changes' squared size.
    """
    shipped: dict[str, NDArray[Any]] = {}
    error = total = 0.0
    for name, value in trained.items():
        if name in HEAD or value.ndim < 2:
            shipped[name] = value.astype(np.float16)
            continue
        change = value - base[name]
        codes, scales = pack(change)
        shipped[name + CODES], shipped[name + SCALES] = codes, scales
        error += float(((unpack(codes, scales) - change) ** 2).sum())
        total += float((change**2).sum())
    return shipped, error / total if total else 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Read the checkpoint, cut, and write the folder."""
    parser = argparse.ArgumentParser(
        prog="nearhit-train shrink",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default=DEFAULT_BASE)
    parser.add_argument("--adapter", help="of the encoder that serves: a folder or hub name")
    parser.add_argument("--max-tokens", type=int, default=160, help="longest pair that is read")
    parser.add_argument("--data-dir", type=Path, default=Path(".nearhit"))
    options = parser.parse_args(argv)
    base = read_tensors(base_folder(options.base, options.data_dir) / BASE_FILES[2])
    saved = torch.load(options.checkpoint, weights_only=False)
    trained = {
        name.removeprefix(_BODY): value.float().numpy() for name, value in saved["trained"].items()
    }
    shipped, error = shrink(trained, base)
    options.out.mkdir(parents=True, exist_ok=True)
    save_file(shipped, options.out / WEIGHTS_FILE)
    sources = find_sources(Recipe(options.base, options.adapter), options.data_dir)
    run = options.checkpoint.parent / "run.json"
    write_json(
        options.out / CONFIG_FILE,
        {
            "base": sources.digests[BASE_FILES[2]],
            "encoder": dict(sources.digests),
            "max_tokens": options.max_tokens,
            "error": error,
            "step": saved["step"],
            "calibration": dict(UNCALIBRATED),
            "training": json.loads(run.read_text("utf-8")) if run.is_file() else None,
        },
    )
    size = (options.out / WEIGHTS_FILE).stat().st_size
    print(f"{options.out}: {size / 1e6:.1f} MB, error {100 * error:.2f} % of the changes")
    return 0
