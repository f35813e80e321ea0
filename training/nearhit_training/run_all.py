r"""From groups to what ships: split, adapter, verifier with its thresholds.

    nearhit-train all --groups groups/ --pairs train/ --out build/

A step whose result is there is not done again; remove its folder to repeat it. A training that was
killed goes on from its checkpoint.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nearhit.encoder.lora import ADAPTER_FILES
from nearhit.encoder.recipe import ADAPTER_RUN
from nearhit.encoder.weights import DEFAULT_BASE
from nearhit.verifier.weights import VERIFIER_FILES
from nearhit_training import calibrate, lora, shrink, split, verifier

# What a package carries; checkpoints and curves stay behind.
_SHIPPED: Final = {"adapter": (*ADAPTER_FILES, ADAPTER_RUN), "verifier": VERIFIER_FILES}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, in order; copy the artefacts when told where."""
    parser = argparse.ArgumentParser(
        prog="nearhit-train all",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--groups", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, help="folder of permitted sets and questions")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default=DEFAULT_BASE)
    parser.add_argument("--data-dir", type=Path, default=Path(".nearhit"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--copy-to", type=Path, help="for instance plugin/nearhit/models")
    options = parser.parse_args(argv)
    out: Path = options.out
    kept = out / "split.json"
    if not kept.is_file():
        split.main(["--groups", str(options.groups), "--out", str(kept)])
    base = ["--base", options.base, "--data-dir", str(options.data_dir)]
    data = ["--groups", str(options.groups), "--split", str(kept)]
    threads = ["--threads", str(options.threads), "--resume"]
    if not (out / "adapter" / "run.json").is_file():
        lora.main([*data, *base, *threads, "--recipe", "best", "--out", str(out / "adapter")])
    served = [*base, "--adapter", str(out / "adapter")]
    if not (out / "cross" / "curve.png").is_file():
        pairs = ["--pairs", str(options.pairs)] if options.pairs else []
        verifier.main([*data, *served, *threads, *pairs, "--out", str(out / "cross")])
    checkpoint = ["--checkpoint", str(out / "cross" / "checkpoint.pt")]
    shrink.main([*checkpoint, *served, "--out", str(out / "verifier")])
    calibrate.main([*data, *served, "--verifier", str(out / "verifier")])
    if options.copy_to:
        for name, files in _SHIPPED.items():
            (options.copy_to / name).mkdir(parents=True, exist_ok=True)
            for file in files:
                shutil.copyfile(out / name / file, options.copy_to / name / file)
    return 0
