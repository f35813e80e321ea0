"""The served files: built once from base and adapter, kept under the fingerprint of both.

``<data_dir>/artefacts/<fingerprint[:16]>/`` holds encoder.onnx, tokenizer.json and
manifest.json. The fingerprint is known before anything is built: it is the sha256 of what goes
in, not of what comes out, because two machines' matrix products may differ in a last bit that
no decision depends on.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import nearhit
from nearhit.encoder.files import filled_folder, sha256_file, sole_writer
from nearhit.encoder.recipe import (
    BUILDER,
    GRAPH_FILE,
    MAX_TOKENS,
    TOKENIZER_FILE,
    VERIFIER_FILE,
    Precision,
    Recipe,
    Sources,
    find_sources,
)
from nearhit.encoder.weights import DEFAULT_BASE
from nearhit.errors import EncoderError
from nearhit.verifier.weights import CONFIG_FILE as VERIFIER_CONFIG

logger = logging.getLogger(__name__)

MANIFEST_FILE: Final = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artefact is made of, and what was measured of it.

    Attributes:
        fingerprint: 64 hexadecimal digits over `inputs`, builder, precision and limits.
        base: name or folder of the base, as the operator gave it.
        adapter: the same of the adapter, or None.
        inputs: sha256 of each file that went in.
        outputs: sha256 of each file beside the manifest.
        architecture: layers, heads and so on.
        parameters: how many numbers base and adapter hold.
        dimension: length of a vector.
        max_tokens: longest text in tokens, [CLS] and [SEP] included.
        precision: number format of the weights: fp16 or int8. Sums are float32 in both.
        multilingual: False: text in another language than English is matched exactly only.
        fidelity: cosine to the same weights in float32, see `fidelity.Fidelity`.
        thresholds: confidence from which answers keep a precision, by that precision; empty
            without a verifier, or where it was calibrated for another encoder.
        verifier: sha256 of each file of the verifier; empty without one.
        verifier_error: largest difference of a logit to float32 weights; 0 without one.
        builder: version of the graph's builder.
        nearhit: version that built it.
    """

    fingerprint: str
    base: str
    adapter: str | None
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    architecture: Mapping[str, float]
    parameters: Mapping[str, int]
    dimension: int
    max_tokens: int
    precision: Precision
    multilingual: bool
    fidelity: Mapping[str, float]
    builder: int
    nearhit: str
    thresholds: Mapping[str, float] = field(default_factory=dict)
    verifier: Mapping[str, str] = field(default_factory=dict)
    verifier_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Artefact:
    """A folder that is complete and has been verified."""

    path: Path
    manifest: Manifest


def ensure_artefact(
    data_dir: Path,
    base: str = DEFAULT_BASE,
    adapter: str | Path | None = None,
    precision: Precision = "fp16",
    multilingual: bool = False,
    verifier: str | Path | None = None,
) -> Artefact:
    """Return the artefact of a recipe; build it when it is absent or damaged.

    Blocks: about 0.1 s when it is there, a few seconds when not, longer when the base must be
    fetched. Any number of processes may call it at once; one builds and the others wait.

    Args:
        data_dir: nearhit's data folder, made if absent.
        base: see `Recipe`, as the following.
        adapter: see `Recipe`.
        precision: see `Recipe`.
        multilingual: see `Recipe`.
        verifier: see `Recipe`.

    Raises:
        EncoderError: the base or the adapter cannot be had, do not fit, or build badly.
    """
    recipe = Recipe(base, _named(adapter), precision, multilingual, _named(verifier))
    sources = find_sources(recipe, data_dir)
    final = data_dir / "artefacts" / sources.folder_name
    found = _intact(final, sources)
    if found is not None:
        return found
    with sole_writer(final.parent):
        found = _intact(final, sources)  # another process may have built it meanwhile
        if found is not None:
            return found
        logger.info("building encoder artefact %s from %s", sources.folder_name, base)
        return _write(recipe, sources, data_dir, final)


def build_artefact(recipe: Recipe, data_dir: Path, out: Path) -> Artefact:
    """Build into a folder of its own, to be copied to other machines.

    Args:
        recipe: what to build.
        data_dir: nearhit's data folder, where a fetched base is kept.
        out: the folder; what is there is replaced if it is an artefact.

    Raises:
        EncoderError: as `ensure_artefact`, or `out` holds something else.
    """
    out = out.expanduser().absolute()
    if out.exists() and any(out.iterdir()) and not (out / MANIFEST_FILE).is_file():
        raise EncoderError(
            f"--out must be a new folder or an earlier artefact, got {out} with other files; "
            f"choose another folder"
        )
    sources = find_sources(recipe, data_dir)
    with sole_writer(out.parent):
        artefact = _write(recipe, sources, data_dir, out)
    (out.parent / ".lock").unlink(missing_ok=True)
    return artefact


def load_artefact(folder: Path) -> Artefact:
    """Read an artefact that `build_artefact` wrote, wherever it was copied to.

    Raises:
        EncoderError: the folder is not one, or is damaged.
    """
    try:
        return _read(folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EncoderError(
            f"encoder.artefact must be a folder that `nearhit build --out` wrote, got {folder} "
            f"({type(error).__name__}: {error}); build it again"
        ) from error


def _named(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _intact(folder: Path, sources: Sources) -> Artefact | None:
    """Read a folder back; None when it is absent or is not what its manifest says."""
    if not folder.is_dir():
        return None
    try:
        artefact = _read(folder)
        manifest = artefact.manifest
        if (manifest.fingerprint, manifest.verifier) == (
            sources.fingerprint,
            sources.verifier_digests,
        ):
            return artefact
    except (OSError, ValueError, TypeError, KeyError):
        pass
    logger.warning("encoder artefact in %s is damaged and will be built again", folder)
    return None


def _read(folder: Path) -> Artefact:
    manifest = Manifest(**json.loads((folder / MANIFEST_FILE).read_text("utf-8")))
    needed = {GRAPH_FILE, TOKENIZER_FILE}
    if manifest.verifier:
        needed |= {VERIFIER_FILE, VERIFIER_CONFIG}
    for name in needed:
        if sha256_file(folder / name) != manifest.outputs[name]:
            raise ValueError(f"{name} is not the file that the manifest names")
    return Artefact(folder, manifest)


def _write(recipe: Recipe, sources: Sources, data_dir: Path, final: Path) -> Artefact:
    from nearhit.encoder.build import build_files  # onnx: 0.1 s and 14 MB that serving never needs

    with filled_folder(final) as folder:
        built = build_files(recipe, sources, data_dir, folder)
        manifest = Manifest(
            fingerprint=sources.fingerprint,
            base=recipe.base,
            adapter=None if sources.adapter is None else recipe.adapter,
            inputs=dict(sources.digests),
            outputs={file.name: sha256_file(file) for file in sorted(folder.iterdir())},
            architecture=asdict(built.architecture),
            parameters=built.parameters,
            dimension=built.architecture.hidden,
            max_tokens=MAX_TOKENS,
            precision=recipe.precision,
            multilingual=recipe.multilingual,
            fidelity=asdict(built.fidelity),
            builder=BUILDER,
            nearhit=nearhit.__version__,
            thresholds=built.thresholds,
            verifier=dict(sources.verifier_digests),
            verifier_error=built.verifier_error,
        )
        (folder / MANIFEST_FILE).write_text(json.dumps(asdict(manifest), indent=2), "utf-8")
    return Artefact(final, manifest)
