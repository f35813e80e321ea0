"""Merge a peft LoRA adapter into base weights with numpy.

A merged model costs nothing extra when served. Whatever an adapter's config asks for beyond
plain LoRA is refused: weights that are merged almost right look right.

Source: LoRA, arXiv 2106.09685 section 4.1 (W + alpha/r B A); rank-stabilised scale alpha/sqrt(r),
arXiv 2312.03732.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nearhit.encoder.weights import Tensors, read_tensors
from nearhit.errors import EncoderError

ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors")

_WRAPPER: Final = re.compile(r"^base_model\.model\.(?:0\.(?:auto_model|model)\.|bert\.)?")
# The values under which a field of the config leaves plain LoRA as it is. A string given to
# init_lora_weights may mean that the base weights were changed too (PiSSA, OLoRA, CorDA).
_PLAIN: Final[Mapping[str, tuple[Any, ...]]] = {
    "peft_type": ("LORA",),
    "bias": (None, "none"),
    "init_lora_weights": (None, True, False, "gaussian"),
} | dict.fromkeys(
    (
        "alora_invocation_tokens",
        "exclude_modules",
        "fan_in_fan_out",
        "layer_replication",
        "layers_to_transform",
        "lora_bias",
        "modules_to_save",
        "target_parameters",
        "trainable_token_indices",
        "use_dora",
        "use_qalora",
    ),
    (None, False, [], {}),
)


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """The part of adapter_config.json that says how to merge."""

    rank: int
    alpha: float
    targets: str | tuple[str, ...]
    rank_stabilised: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]

    @classmethod
    def read(cls, path: Path) -> "LoraConfig":
        """Read the file, and refuse what this module does not merge.

        Raises:
            EncoderError: the file cannot be read or asks for more than plain LoRA.
        """
        try:
            config: dict[str, Any] = json.loads(path.read_text("utf-8"))
            targets = config["target_modules"]
            read = cls(
                rank=int(config["r"]),
                alpha=float(config["lora_alpha"]),
                targets=targets if isinstance(targets, str) else tuple(targets),
                rank_stabilised=bool(config.get("use_rslora")),
                rank_pattern=config.get("rank_pattern") or {},
                alpha_pattern=config.get("alpha_pattern") or {},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EncoderError(
                f"{path} must be the config of a LoRA adapter, got one that cannot be read "
                f"({type(error).__name__}: {error}); save the adapter with peft again"
            ) from error
        for field, plain in _PLAIN.items():
            if config.get(field, plain[0]) not in plain:
                raise EncoderError(
                    f"encoder.adapter must be plain LoRA, got {field}={config[field]!r} in {path}; "
                    f"merge it into the base with peft and set `encoder.base` to the result"
                )
        return read

    def adapts(self, module: str) -> bool:
        """Whether a module of the base is a target: a full match of a pattern, or a suffix."""
        if isinstance(self.targets, str):
            return self.targets == "all-linear" or bool(re.fullmatch(self.targets, module))
        return any(module == t or module.endswith(f".{t}") for t in self.targets)

    def rank_of(self, module: str) -> int:
        """Return the rank of one module's matrices."""
        return int(_by_pattern(self.rank_pattern, module, self.rank))

    def scale_of(self, module: str) -> float:
        """Return what B @ A is multiplied by in one module."""
        rank = self.rank_of(module)
        alpha = _by_pattern(self.alpha_pattern, module, self.alpha)
        return float(alpha / (rank**0.5 if self.rank_stabilised else rank))


def merge_adapter(base: Tensors, adapter: Path) -> Tensors:
    """Add an adapter to the base weights.

    Args:
        base: BERT weights by name, without a prefix; matrices are float32 (out, in).
        adapter: folder with `ADAPTER_FILES`, as peft saves it.

    Returns:
        New weights under the same names; the base is left as it was.

    Raises:
        EncoderError: the adapter is not plain LoRA, or does not fit the base exactly.
    """
    config = LoraConfig.read(adapter / ADAPTER_FILES[0])
    given = {
        _WRAPPER.sub("", name): tensor
        for name, tensor in read_tensors(adapter / ADAPTER_FILES[1]).items()
    }
    modules = [
        name.removesuffix(".weight")
        for name, tensor in base.items()
        if tensor.ndim == 2 and not name.startswith("embeddings.")
    ]
    targets = [module for module in modules if config.adapts(module)]
    wanted = {f"{module}.lora_{side}.weight" for module in targets for side in "AB"}
    _check_keys(adapter, wanted, given.keys())

    merged = dict(base)
    for module in targets:
        down, up = given[f"{module}.lora_A.weight"], given[f"{module}.lora_B.weight"]
        weight = base[f"{module}.weight"]
        rank = config.rank_of(module)
        if down.shape != (rank, weight.shape[1]) or up.shape != (weight.shape[0], rank):
            raise EncoderError(
                f"encoder.adapter must fit {module} {weight.shape} at rank {rank}, got A "
                f"{down.shape} and B {up.shape} in {adapter}; set `encoder.base` to the model "
                f"it was trained on"
            )
        merged[f"{module}.weight"] = weight + config.scale_of(module) * (up @ down)
    return merged


def count_parameters(adapter: Path) -> int:
    """Count the numbers that an adapter holds, all of them trained.

    Raises:
        EncoderError: the file cannot be read.
    """
    return sum(tensor.size for tensor in read_tensors(adapter / ADAPTER_FILES[1]).values())


def _check_keys(adapter: Path, wanted: Collection[str], given: Collection[str]) -> None:
    missing, unexpected = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    if missing or unexpected or not wanted:
        raise EncoderError(
            f"encoder.adapter must adapt the base's modules exactly, got {adapter} with "
            f"{len(missing)} keys missing {missing} and {len(unexpected)} unexpected {unexpected}; "
            f"set `encoder.base` to the model it was trained on"
        )


def _by_pattern(pattern: Mapping[str, float], module: str, default: float) -> float:
    """First entry whose key is the module's name or its end, as peft looks it up."""
    return next(
        (value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", module)), default
    )
