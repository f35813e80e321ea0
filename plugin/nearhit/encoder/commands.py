"""The commands about the encoder: build, encode and reembed."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearhit import config
from nearhit.config import Settings
from nearhit.encoder.base import Encoder, Encoding, Unencodable
from nearhit.errors import ConfigError

_SHOWN_VALUES = 6
_WIDEST_TABLE = 12  # columns of similarities that fit a terminal


def add_commands(commands: Any) -> None:
    """Add the commands to the parser's subparsers."""
    build = commands.add_parser("build", help="make the encoder's artefact, if there is none")
    _add_config(build)
    build.add_argument("--base", help="overrides encoder.base: a folder or a hub name")
    build.add_argument("--adapter", help="overrides encoder.adapter: a folder or a hub name")
    build.add_argument("--verifier", help="overrides encoder.verifier: a folder or a hub name")
    build.add_argument("--precision", choices=("fp16", "int8"), help="overrides encoder.precision")
    build.add_argument(
        "--multilingual", action="store_true", default=None, help="not trained for English only"
    )
    build.add_argument(
        "--out", type=Path, help="a folder to copy elsewhere, instead of the data folder"
    )
    build.set_defaults(run=_build)
    encode = commands.add_parser("encode", help="show the vectors of texts and their similarities")
    encode.add_argument("file", type=Path, help="one text a line; - reads standard input")
    _add_config(encode)
    encode.add_argument("--json", action="store_true", help="print whole vectors as JSON")
    encode.set_defaults(run=_encode)
    reembed = commands.add_parser(
        "reembed", help="give stored questions vectors of the encoder in force"
    )
    _add_config(reembed)
    reembed.set_defaults(run=_reembed)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", type=Path, nargs="?", help="the YAML file; without it defaults and environment"
    )


def _build(options: argparse.Namespace) -> int:
    from nearhit.encoder.artefact import build_artefact
    from nearhit.encoder.recipe import Recipe
    from nearhit.encoder.serving import find_artefact

    settings = config.load_file(options.config)
    names = ("base", "adapter", "precision", "multilingual", "verifier")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    encoder = settings.encoder.model_copy(update=given)
    if given:
        encoder = encoder.model_copy(update={"artefact": None})
    if options.out is None:
        artefact = find_artefact(encoder, settings.data_dir)
    else:
        recipe = Recipe(**{name: getattr(encoder, name) for name in names})
        artefact = build_artefact(recipe, settings.data_dir, options.out)
    manifest = artefact.manifest
    print(f"encoder {manifest.fingerprint[:16]} in {artefact.path}")
    base, adapter = manifest.parameters["base"], manifest.parameters["adapter"]
    print(f"base     {manifest.base}, {base:,} parameters")
    if manifest.adapter is not None:
        share = 100 * adapter / (base + adapter)
        print(f"adapter  {manifest.adapter}, {adapter:,} parameters, {share:.2f} % of all")
    fidelity = manifest.fidelity
    print(
        f"{manifest.precision:<8} cosine to float32 {fidelity['cosine_min']:.6f} at least, "
        f"{fidelity['cosine_mean']:.6f} in the mean of {fidelity['texts']} texts"
    )
    if manifest.verifier:
        kept = ", ".join(f"{p} from confidence {t:.4f}" for p, t in manifest.thresholds.items())
        print(
            f"verifier logit within {manifest.verifier_error:.4f} of float32; precision "
            f"{kept or 'not calibrated for this encoder'}"
        )
    return 0


def _encode(options: argparse.Namespace) -> int:
    from nearhit.encoder.serving import load_encoder

    try:
        content = sys.stdin.read() if str(options.file) == "-" else options.file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"FILE must be a readable text file, got {options.file} ({type(error).__name__}); "
            f"check the path"
        ) from None
    texts = [line for line in content.splitlines() if line.strip()]
    encoder = load_encoder(config.load_file(options.config))
    encodings = asyncio.run(_encode_all(encoder, texts))
    vectors = [None if isinstance(found, Unencodable) else found for found in encodings]
    known = [vector for vector in vectors if vector is not None]
    matrix = np.stack(known) if known else np.zeros((0, encoder.dimension), np.float32)
    similarities = _spread(matrix @ matrix.T, [vector is not None for vector in vectors])
    if options.json:
        _print_json(encoder.fingerprint, texts, encodings, similarities)
    else:
        _print_table(texts, encodings, similarities)
    return 0


async def _encode_all(encoder: Encoder, texts: Sequence[str]) -> list[Encoding]:
    """One after another: a person's file is short, and its order is kept."""
    encodings = [await encoder.encode(text) for text in texts]
    await encoder.close()
    return encodings


def _spread(similarities: NDArray[np.float32], known: Sequence[bool]) -> list[list[float | None]]:
    """Put None where a text has no vector."""
    places = iter(range(len(similarities)))
    rows = [next(places) if is_known else None for is_known in known]
    return [
        [None if a is None or b is None else float(similarities[a, b]) for b in rows] for a in rows
    ]


def _print_json(
    fingerprint: str,
    texts: Sequence[str],
    encodings: Sequence[Encoding],
    similarities: Sequence[Sequence[float | None]],
) -> None:
    described = [
        {"text": text, "vector": None, "reason": found.reason}
        if isinstance(found, Unencodable)
        else {"text": text, "vector": found.tolist(), "reason": None}
        for text, found in zip(texts, encodings, strict=True)
    ]
    document = {"fingerprint": fingerprint, "texts": described, "similarities": similarities}
    print(json.dumps(document, indent=2, allow_nan=False))


def _print_table(
    texts: Sequence[str],
    encodings: Sequence[Encoding],
    similarities: Sequence[Sequence[float | None]],
) -> None:
    for number, (text, found) in enumerate(zip(texts, encodings, strict=True), 1):
        if isinstance(found, Unencodable):
            shown = f"no vector: {found.reason}"
        else:
            shown = " ".join(f"{value:+.3f}" for value in found[:_SHOWN_VALUES]) + " ..."
        print(f"{number:>4}  {shown:<48} {text[:60]}")
    print()
    if len(texts) <= _WIDEST_TABLE:
        print("      " + "".join(f"{number:>8}" for number in range(1, len(texts) + 1)))
        for number, row in enumerate(similarities, 1):
            cells = ("-" if value is None else f"{value:.4f}" for value in row)
            print(f"{number:>6}" + "".join(f"{cell:>8}" for cell in cells))
        return
    print("   nearest other text of each:")
    for number, row in enumerate(similarities, 1):
        others = [
            (value, other)
            for other, value in enumerate(row, 1)
            if value is not None and other != number
        ]
        if others:
            value, other = max(others)
            print(f"{number:>6}  {value:.4f}  {other:>4}  {texts[other - 1][:60]}")


def _reembed(options: argparse.Namespace) -> int:
    from nearhit.encoder.serving import load_encoder
    from nearhit.signing import read_secret

    settings = config.load_file(options.config)
    if settings.store.prompts == "hashed":
        raise ConfigError(
            "store.prompts must keep questions to give them vectors, got hashed; nothing is to be "
            "done, for only exact repeats hit"
        )
    configured = settings.secret.get_secret_value() if settings.secret else None
    secret = read_secret(configured, settings.data_dir)
    return asyncio.run(_migrate(settings, load_encoder(settings), secret))


async def _migrate(settings: Settings, encoder: Encoder, secret: bytes) -> int:
    from tqdm import tqdm

    from nearhit.reembed import Tally, reembed
    from nearhit.store.opening import open_store

    store = open_store(settings, encoder.dimension, secret)
    with tqdm(unit="entry", desc="reembed", file=sys.stderr) as bar:

        def show(tally: Tally, total: int) -> None:
            bar.total = total
            bar.update(tally.seen - bar.n)

        try:
            await store.start()
            tally = await reembed(store, encoder, secret, show)
        finally:
            await store.close()
            await encoder.close()
    print(
        f"{tally.migrated} entries have vectors of encoder {encoder.fingerprint[:16]}, "
        f"{tally.exact_only} match exactly only, {tally.overtaken} changed meanwhile"
    )
    if tally.forged:
        print(
            f"nearhit: {tally.forged} entries carry no signature of this installation and were "
            f"left as they are",
            file=sys.stderr,
        )
    return 0
