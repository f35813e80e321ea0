"""A new encoder does not mean a cold cache."""

import os
import subprocess
import sys
from pathlib import Path

from gateway import Gateway, Upstream, config_of, running

NEARHIT = {"similarity_threshold": 0.9, "deadline_ms": 2000}
QUESTION = "How do I enable two-factor authentication on my GitHub account?"
PARAPHRASE = "How do I turn on two-factor authentication on my GitHub account?"
PLEASE = "Please, how do I enable two-factor authentication on my GitHub account?"


def reembed(gateway: Gateway) -> str:
    """Run the command as an operator would, beside the proxy."""
    done = subprocess.run(
        [Path(sys.executable).with_name("nearhit"), "reembed", gateway.folder / "config.yaml"],
        env={**os.environ, "NEARHIT_DATA_DIR": str(gateway.folder / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_answers_of_the_encoder_before_hit_again_after_reembed(
    tmp_path: Path, upstream: Upstream, real_base: Path, real_artefacts: Path
) -> None:
    with running(tmp_path, config_of(upstream.url, nearhit=NEARHIT), real_artefacts) as gateway:
        learned = gateway.learn(QUESTION)
        assert gateway.ask(PARAPHRASE).kind == "semantic"
    other = {**NEARHIT, "encoder": {"base": str(real_base), "precision": "int8"}}
    with running(tmp_path, config_of(upstream.url, nearhit=other), real_artefacts) as gateway:
        assert gateway.ask(QUESTION).kind == "exact"
        assert gateway.ask(PARAPHRASE).reason == "nothing_near"
        said = gateway.server.printed()
        assert "have vectors of another encoder and match exactly only" in said, said[-2000:]
        assert "entries have vectors of encoder" in reembed(gateway)
        reply = gateway.ask(PLEASE)
        assert (reply.kind, reply.text) == ("semantic", learned.text), reply.headers
        assert reembed(gateway).startswith("0 entries")
