"""nearhit beside what an operator may have: a cache, guardrails, fallbacks, teams, cool-downs."""

import time
from pathlib import Path
from typing import Any

import pytest

import stack
from gateway import MODEL, Gateway, Upstream, config_of, running

NEARHIT = {"similarity_threshold": 0.95, "deadline_ms": 2000}
QUESTION = "How do I bake bread?"


def test_team_scope_shares_answers_within_the_team_and_with_nobody_else(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    config = config_of(upstream.url, nearhit={**NEARHIT, "scope": "team"})
    with running(tmp_path, config, real_artefacts) as proxy:
        proxy.learn(QUESTION, key="sk-alice")
        assert proxy.ask(QUESTION, key="sk-bob").outcome == "hit"
        assert proxy.ask(QUESTION, key="sk-carol").outcome == "miss"
        # Two keys without a team are not thereby one team.
        proxy.learn(QUESTION, key="sk-dave")
        assert proxy.ask(QUESTION, key="sk-erin").outcome == "miss"


def test_cache_and_guardrails_of_the_operator_go_on_beside_it(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    def guard(name: str, kind: str, mode: str) -> dict[str, object]:
        params = {"guardrail": f"guards.{kind}", "mode": mode, "default_on": True}
        return {"guardrail_name": name, "litellm_params": params}

    config = config_of(
        upstream.url,
        nearhit=NEARHIT,
        litellm_settings={
            # First in the list: nearhit has to make itself the last.
            "callbacks": ["nearhit.hook.proxy_hook", "recorder.recorder"],
            "cache": True,
            "cache_params": {"type": "local"},
            "num_retries": 0,
        },
        guardrails=[
            guard("in", "BlocksInput", "pre_call"),
            guard("out", "BlocksOutput", "post_call"),
        ],
    )
    with running(tmp_path, config, real_artefacts) as proxy:
        _operators_cache_serves_what_nearhit_leaves_alone(proxy, upstream)
        _what_an_output_guardrail_blocks_is_not_stored(proxy, upstream)
        _what_an_output_guardrail_changes_is_changed_for_each_client_anew(proxy, upstream)
        _input_guardrail_stands_before_every_hit(proxy)


def _operators_cache_serves_what_nearhit_leaves_alone(proxy: Gateway, upstream: Upstream) -> None:
    upstream.reset()
    off = {"x-nearhit": "off"}
    first = proxy.ask(QUESTION, headers=off)
    time.sleep(0.3)
    second = proxy.ask(QUESTION, headers=off)
    assert upstream.count == 1
    assert second.headers["x-litellm-cache-key"]
    assert (first.outcome, second.outcome, second.text) == ("bypass", "bypass", first.text)
    # What came out of that cache is not young: nearhit does not store it as if it were.
    assert proxy.ask(QUESTION).outcome == "miss"
    time.sleep(0.3)
    assert proxy.ask(QUESTION).outcome == "miss"
    assert upstream.count == 1
    # And nearhit's own hits go on.
    proxy.learn("How do I brew coffee?")
    assert proxy.ask("How do I brew coffee?", stream=True).outcome == "hit"


def _what_an_output_guardrail_blocks_is_not_stored(proxy: Gateway, upstream: Upstream) -> None:
    upstream.script(message={"role": "assistant", "content": "This is poison."})
    for _ in range(2):
        assert proxy.ask("Tell me of it.").status == 400
        time.sleep(0.2)
    upstream.script()


def _what_an_output_guardrail_changes_is_changed_for_each_client_anew(
    proxy: Gateway, upstream: Upstream
) -> None:
    upstream.script(message={"role": "assistant", "content": "Dear person-1, yes."})
    assert proxy.learn("May I?").text == "Dear Ann, yes."
    assert proxy.ask("May I?").text == "Dear Ann, yes."
    # The stored answer is the model's own: a stream, which this guardrail lets through, shows it.
    assert proxy.ask("May I?", stream=True).text == "Dear person-1, yes."
    upstream.script()


def _input_guardrail_stands_before_every_hit(proxy: Gateway) -> None:
    proxy.learn("Is this forbidden?", key="sk-alice")
    assert proxy.ask("Is this forbidden?").outcome == "hit"
    assert proxy.ask("Is this forbidden?", key="sk-bob").status == 400


def test_hit_is_served_while_no_deployment_is_well_and_fallbacks_are_not_stored(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    dead = f"http://127.0.0.1:{stack.free_port()}"
    config = config_of(upstream.url, nearhit=NEARHIT)
    broken = {"model": "openai/gpt-4o", "api_base": dead, "api_key": "x", "max_retries": 0}
    config["model_list"].append({"model_name": "broken", "litellm_params": broken})
    for _ in range(2):  # a group of one deployment never cools down
        params = config["model_list"][0]["litellm_params"]
        config["model_list"].append({"model_name": "pair", "litellm_params": params})
    config["router_settings"] = {
        "allowed_fails": 0,
        "cooldown_time": 600,
        "fallbacks": [{"broken": [MODEL]}],
        "num_retries": 0,
    }
    with running(tmp_path, config, real_artefacts) as proxy:
        for stream in (False, True):
            for _ in range(2):
                reply = proxy.ask(QUESTION, model="broken", stream=stream)
                assert (reply.status, reply.outcome) == (200, "miss")
                time.sleep(0.3)
        # Now let both deployments of a group fail after one has answered, until they cool down.
        proxy.learn(QUESTION, model="pair")
        upstream.script(status=500)
        for number in range(6):
            cooling = proxy.ask(f"What is {number}?", model="pair")
        assert cooling.status == 429
        assert "No deployments available" in str(cooling.body)
        for stream in (False, True):
            hit = proxy.ask(QUESTION, model="pair", stream=stream)
            assert (hit.status, hit.outcome) == (200, "hit")


def test_callback_that_answers_or_edits_streams_is_neither_stored_nor_overruled(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    names = ["nearhit.hook.proxy_hook", "guards.policy", "recorder.recorder"]
    config = config_of(upstream.url, nearhit=NEARHIT, litellm_settings={"callbacks": names})
    config["general_settings"]["forward_client_headers_to_llm_api"] = True
    refuse: dict[str, Any] = {"metadata": {"refuse": True}}
    with running(tmp_path, config, real_artefacts) as proxy:
        for _ in range(2):
            refused = proxy.ask(QUESTION, **refuse)
            assert (refused.reason, refused.text) == ("mocked", "POLICY: no.")
        proxy.learn(QUESTION)
        assert proxy.ask(QUESTION, **refuse).text == "POLICY: no."

        upstream.script(message={"role": "assistant", "content": "Dear person-1, yes."})
        for _ in range(3):
            reply = proxy.ask("May I?", stream=True)
            assert (reply.outcome, reply.text) == ("miss", "Dear Ann, yes.")
            time.sleep(0.2)

        assert proxy.ask("Hello?", headers={"x-locale": "de"}).outcome == "miss"
        time.sleep(0.5)
        assert proxy.ask("Hello?", headers={"x-locale": "de"}).outcome == "hit"
        assert proxy.ask("Hello?", headers={"x-locale": "fr"}).outcome == "miss"


def test_mode_off_passes_everything_through(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    config = config_of(upstream.url, nearhit={"mode": "off"})
    with running(tmp_path, config, real_artefacts) as proxy:
        for _ in range(2):
            assert proxy.ask(QUESTION).reason == "mode_off"
        assert not (tmp_path / "data" / "store").exists()


def test_proxy_with_a_wrong_setting_does_not_start_and_says_why(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    config = config_of(upstream.url, nearhit={"similarity_treshold": 0.9})
    with (
        pytest.raises(RuntimeError, match=r"did you mean similarity_threshold\?"),
        running(tmp_path, config, real_artefacts),
    ):
        pass
