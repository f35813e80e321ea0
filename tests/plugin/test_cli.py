"""The `nearhit` command, as a person types it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pytest

from nearhit.cli import main
from nearhit.sealing import Seal
from nearhit.signing import is_authentic, read_secret, sign
from nearhit.store import Entry
from nearhit.store.embedded import EmbeddedStore

ON = "litellm_settings: {callbacks: nearhit.hook.proxy_hook}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def test_check_of_a_right_config_shows_what_is_in_force(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(ON + "nearhit: {ttl_s: 60}\n")
    assert main(["check", str(config)]) == 0
    out = capsys.readouterr().out
    assert "* ttl_s" in out
    assert "  scope" in out


def test_check_names_classes_of_questions_and_who_may_ask_what(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = "{name: ids, patterns: [x-1], bypass: true}"
    classes = f"[{{name: sport, words: [score], ttl_s: 60}}, {ids}]"
    rights = "{max_age: ['team:red']}"
    config.write_text(
        ON + f"nearhit: {{freshness_classes: {classes}, request_control: {rights}}}\n"
    )
    assert main(["check", str(config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if "freshness_classes" in line).endswith("2: sport, ids")
    assert next(line for line in lines if "request_control.max_age" in line).endswith("1: team:red")


def test_check_as_json_can_be_read_by_a_script(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(ON + "nearhit: {ttl_s: 60, secret: 0123456789abcdefg}\n")
    assert main(["check", "--json", str(config)]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["ttl_s"] == 60
    assert "0123456789abcdefg" not in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ON + "nearhit: {ttl: 60}\n", "did you mean ttl_s?"),
        ("nearhit: {ttl_s: 60}\n", "callbacks must name nearhit.hook.proxy_hook, got nothing"),
        ("litellm_settings: {callbacks: [a, b]}\n", "add `callbacks: nearhit.hook.proxy_hook`"),
        ("litellm_settings: 3\n", "callbacks must name"),
        ("a: [", "must be YAML"),
    ],
)
def test_check_of_a_wrong_config_fails_and_says_how_to_mend_it(
    config: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    config.write_text(text)
    assert main(["check", str(config)]) == 1
    assert message in capsys.readouterr().err


def test_check_of_the_shipped_config_is_right(
    capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    assert main(["check", str(pytestconfig.rootpath / "router_config.yaml")]) == 0
    assert "valid" in capsys.readouterr().out


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "examples:" in capsys.readouterr().out


@pytest.fixture
def with_real_base(tmp_path: Path, real_artefacts: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder whose encoder is built already."""
    monkeypatch.setenv("NEARHIT_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "artefacts").symlink_to(real_artefacts)
    (tmp_path / "data" / "base").symlink_to(real_artefacts.parent / "base")
    return tmp_path / "data"


def test_build_says_where_the_encoder_is_and_what_was_measured(
    with_real_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build"]) == 0
    out = capsys.readouterr().out
    assert str(with_real_base / "artefacts") in out
    assert "22,713,216 parameters" in out
    assert "cosine to float32 0.9999" in out


def test_build_of_the_small_precision_writes_a_folder_that_can_be_served(
    with_real_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "encoder"
    assert main(["build", "--precision", "int8", "--out", str(out)]) == 0
    encoder = (out / name for name in ("encoder.onnx", "tokenizer.json"))
    assert sum(path.stat().st_size for path in encoder) < 26e6
    monkeypatch.setenv("NEARHIT_ENCODER__ARTEFACT", str(out))
    assert main(["build"]) == 0
    assert capsys.readouterr().out.count(f" in {out}") == 2


def test_build_with_a_base_that_is_not_there_fails_and_names_the_setting(
    with_real_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "--base", "no-such-folder"]) == 1
    assert "encoder.base must be a folder or a hub name" in capsys.readouterr().err


def test_encode_shows_similarities_and_why_a_text_has_no_vector(
    with_real_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("How do I enable 2FA?\n\nhow do i disable 2fa\nWie geht das?\n")
    assert main(["encode", str(file)]) == 0
    out = capsys.readouterr().out
    assert "no vector: other_language" in out
    assert "0.6167" in out
    assert main(["encode", "--json", str(file)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [len(text["vector"] or []) for text in document["texts"]] == [384, 384, 0]
    assert document["similarities"][0][1] == pytest.approx(0.6167, abs=0.002)
    assert document["similarities"][2] == [None, None, None]


def test_encode_of_many_texts_shows_the_nearest_of_each(
    with_real_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"How do I sort a list of {number} numbers?\n" for number in range(14)))
    assert main(["encode", str(file)]) == 0
    assert capsys.readouterr().out.count("How do I sort") == 28


def test_encode_of_a_missing_file_fails_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["encode", str(tmp_path / "none.txt")]) == 1
    assert "FILE must be a readable text file" in capsys.readouterr().err


def test_reembed_moves_a_store_on_disk_to_the_encoder_in_force(
    with_real_base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = read_secret(None, with_real_base)
    now = int(time.time())
    vector = np.zeros(384, np.float32)
    vector[0] = 1.0
    entry = Entry(
        id=uuid5(NAMESPACE_URL, "q"),
        scope="tenant",
        fingerprint="an earlier encoder",
        text="How do I reset my password?",
        completion="{}",
        model="m",
        created_at=now,
        expires_at=now + 600,
        epoch=0,
        signature="",
        vector=vector,
    )

    async def store(work: Callable[[EmbeddedStore], Awaitable[Any]]) -> Any:
        opened = EmbeddedStore(with_real_base, dimension=384, idle_exit_s=1.0)
        try:
            return await work(opened)
        finally:
            await opened.close()

    signed = replace(entry, signature=sign(entry, secret))
    seal = Seal("encrypted", secret)
    asyncio.run(store(lambda opened: opened.put(seal.seal(signed))))
    monkeypatch.setenv("NEARHIT_STORE__PROMPTS", "hashed")
    assert main(["reembed"]) == 1
    assert "store.prompts must keep questions" in capsys.readouterr().err
    monkeypatch.setenv("NEARHIT_STORE__PROMPTS", "encrypted")
    assert main(["reembed"]) == 0
    assert "1 entries have vectors of encoder" in capsys.readouterr().out
    sealed = asyncio.run(store(lambda opened: opened.get(entry.id, now)))
    assert "password" not in sealed.text
    after = seal.open(sealed)
    assert after.fingerprint not in ("", "an earlier encoder")
    assert is_authentic(after, secret)
    assert main(["reembed"]) == 0
    assert "0 entries have vectors of encoder" in capsys.readouterr().out
