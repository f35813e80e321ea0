"""The `nearhit` command, as a person types it."""

import json
from pathlib import Path

import pytest

from nearhit.cli import main

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
