"""The `nearhit-train` command: one verb a module, each with a `main(argv)` of its own.

nearhit-train generate seeds.jsonl --endpoint URL --model NAME --out groups.jsonl --dry-run
nearhit-train split --groups groups/ --out split.json
nearhit-train lora --recipe best --groups groups/ --split split.json --out build/adapter
nearhit-train verifier --groups groups/ --pairs train/ --split split.json --out build/cross
nearhit-train all --groups groups/ --pairs train/ --out build/
"""

import importlib
import logging
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from nearhit.errors import NearhitError

# A verb's module is imported when it is asked for: generating groups needs no torch.
VERBS: Final[Mapping[str, tuple[str, str]]] = {
    "generate": ("generate", "ask a model for paraphrases and near misses of seed questions"),
    "mine": ("mine", "find hard negatives and paraphrases among real questions"),
    "split": ("split", "split groups into train, dev and test by topic"),
    "lora": ("lora", "train the encoder's adapter"),
    "verifier": ("verifier", "train the verifier"),
    "shrink": ("shrink", "make of a trained verifier what ships"),
    "calibrate": ("calibrate", "find the thresholds at which a verifier keeps a precision"),
    "all": ("run_all", "from groups to both artefacts"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; return the exit status: 0, 1 for a fault found, 2 for wrong usage."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in ("-h", "--help"):
        print(usage())
        return 0 if given else 2
    verb, *rest = given
    if verb not in VERBS:
        nearest = get_close_matches(verb, VERBS, 1, 0.0)[0]
        print(f"nearhit-train: unknown verb {verb!r}; did you mean {nearest}?", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        module = importlib.import_module(f"nearhit_training.{VERBS[verb][0]}")
        return int(module.main(rest))
    except NearhitError as error:
        print(f"nearhit-train: {error}", file=sys.stderr)
        return 1


def usage() -> str:
    """List the verbs."""
    lines = [f"  {verb:<10} {says}" for verb, (_, says) in VERBS.items()]
    return "usage: nearhit-train VERB ... (VERB --help says more)\n\n" + "\n".join(lines)
