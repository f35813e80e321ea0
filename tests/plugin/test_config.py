"""Settings: where they come from, and what is said when they are wrong."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from nearhit.config import (
    Settings,
    default_data_dir,
    load,
    read_config,
    read_section,
    unknown_variables,
)
from nearhit.errors import ConfigError


def test_load_of_nothing_gives_the_defaults() -> None:
    assert load(None, {}) == Settings()


def test_load_takes_the_file_over_the_default() -> None:
    assert load({"ttl_s": 60, "encoder": {"threads": 2}}, {}).encoder.threads == 2


def test_load_takes_the_environment_over_the_file() -> None:
    environ = {"NEARHIT_TTL_S": "7", "NEARHIT_ENCODER__THREADS": "3"}
    settings = load({"ttl_s": 60, "encoder": {"threads": 2}}, environ)
    assert (settings.ttl_s, settings.encoder.threads) == (7, 3)


def test_load_resolves_litellms_way_to_name_a_variable() -> None:
    settings = load({"secret": "os.environ/MY_SECRET"}, {"MY_SECRET": "x" * 20})
    assert settings.secret is not None
    assert settings.secret.get_secret_value() == "x" * 20


def test_load_of_a_variable_that_is_not_set_names_it() -> None:
    with pytest.raises(ConfigError, match=r"secret must name a variable that is set, got MINE"):
        load({"secret": "os.environ/MINE"}, {})


def test_load_takes_words_from_the_environment_as_a_list() -> None:
    assert load(None, {"NEARHIT_FRESHNESS": "now, the score"}).freshness == ("now", "the score")


def test_load_of_zero_is_a_value_and_not_unset() -> None:
    assert load({"coalesce_wait_s": 0, "max_turns": 0}, {}).coalesce_wait_s == 0


def test_load_leaves_the_given_section_as_it_was() -> None:
    section: dict[str, Any] = {"encoder": {"threads": 2}}
    load(section, {"NEARHIT_ENCODER__THREADS": "3"})
    assert section == {"encoder": {"threads": 2}}


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load(None, {}).ttl_s = 3


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"similarity_treshold": 0.9}, "did you mean similarity_threshold?"),
        ({"threads": 2}, "did you mean encoder.threads?"),
        ({"encoder": {"thread": 2}}, "encoder.thread is not a setting, did you mean"),
        ({"ttl_s": 0}, r"ttl_s must be greater than or equal to 1, got 0; .*default 86400"),
        ({"ttl_s": "soon"}, r"ttl_s must be .*integer.*, got 'soon'"),
        ({"ttl_s": 1.5}, r"ttl_s must be .*integer.*, got 1.5"),
        ({"similarity_threshold": 1.1}, "similarity_threshold must be less than or equal to 1"),
        ({"similarity_threshold": float("nan")}, "similarity_threshold must be"),
        ({"scope": "tenant"}, r"scope must be 'key', 'team'.*, got 'tenant'"),
        ({"mode": "maybe"}, "mode must be 'on', 'shadow' or 'off', got 'maybe'"),
        ({"encoder": 3}, "encoder must be"),
        ({"freshness": 3}, "freshness must be"),
        ({"models": {"m": {"ttl_s": 0}}}, r"models\.m\.ttl_s must be greater than .*, got 0"),
        ({"models": {"m": {"ttl": 1}}}, r"models\.m\.ttl is not a setting"),
        ([1, 2], "nearhit must be a mapping of settings, got"),
    ],
)
def test_load_of_a_wrong_setting_names_key_rule_value_and_remedy(
    section: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(section, {})


def test_load_names_every_fault_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)scope.*ttl_s"):
        load({"ttl_s": 0, "scope": "x"}, {})


def test_load_of_a_short_secret_does_not_show_it() -> None:
    with pytest.raises(ConfigError, match="secret must be at least 16") as caught:
        load({"secret": "hunter2"}, {})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        (
            {"similarity_threshold": 0.9, "models": {"m": {"target_precision": 0.9}}},
            "nearhit must be without target_precision and confidence_threshold for m where",
        ),
        (
            {"verify_sample": 0.1, "store": {"prompts": "hashed"}},
            "nearhit must be without verify_sample where store.prompts is hashed",
        ),
        (
            {"store": {"prompts": "encrypted", "max_entry_bytes": 7_000_000}},
            "store must be with a max_entry_bytes of at most 6000000 where",
        ),
    ],
)
def test_load_of_settings_that_do_not_fit_together_shows_no_secret(
    section: dict[str, Any], rule: str
) -> None:
    keys = {"NEARHIT_SECRET": "hushhushhushhush", "NEARHIT_STORE__API_KEY": "hushhush"}
    for given in (section, {"secret": "hushhushhushhush", **section}):
        with pytest.raises(ConfigError, match=rule) as told:
            load(given, keys)
        assert "hush" not in str(told.value)


def test_settings_never_show_the_secret() -> None:
    assert "x" * 20 not in repr(load({"secret": "x" * 20}, {}))


def test_variable_that_sets_a_key_inside_no_mapping_is_an_error() -> None:
    with pytest.raises(ConfigError, match="NEARHIT_ENCODER__BASE sets a key inside it"):
        load({"encoder": "mine"}, {"NEARHIT_ENCODER__BASE": "x"})


def test_unknown_variables_names_the_nearest() -> None:
    environ = {"NEARHIT_TTL": "3", "NEARHIT_TTL_S": "3", "NEARHIT_TEST_X": "3", "PATH": "x"}
    assert unknown_variables(environ) == ["NEARHIT_TTL sets nothing, did you mean NEARHIT_TTL_S?"]


@pytest.mark.parametrize(
    "config", [{"nearhit": {"ttl_s": 5}}, {"callback_settings": {"nearhit": {"ttl_s": 5}}}]
)
def test_read_section_finds_both_places(config: dict[str, Any]) -> None:
    assert read_section(config) == {"ttl_s": 5}


def test_read_section_of_both_places_at_once_is_an_error() -> None:
    with pytest.raises(ConfigError, match="must stand in one place"):
        read_section({"nearhit": {}, "callback_settings": {"nearhit": {}}})


@pytest.mark.parametrize("config", [{}, {"callback_settings": None}, {"callback_settings": "x"}])
def test_read_section_without_one_is_none(config: dict[str, Any]) -> None:
    assert read_section(config) is None


def test_read_config_of_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: No such file"):
        read_config(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "must be YAML"), ("- a", "must be a mapping"), ("", "mapping")]
)
def test_read_config_of_what_is_no_config_says_so(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(path)


def test_default_data_dir_follows_the_desktop_standard() -> None:
    assert default_data_dir({"XDG_DATA_HOME": "/data"}) == Path("/data/nearhit")


def test_load_takes_a_right_for_all_or_for_a_list_of_callers() -> None:
    section = {"request_control": {"max_age": "all", "ttl": ["team:red", "key:ab12"]}}
    found = load(section, {"NEARHIT_REQUEST_CONTROL__NO_STORE": "team:red, user:frank"})
    assert found.request_control.max_age == ("all",)
    assert found.request_control.ttl == ("team:red", "key:ab12")
    assert found.request_control.no_store == ("team:red", "user:frank")
    assert found.request_control.no_cache == ("all",)
    assert found.request_control.only_if_cached == ()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"request_control": {"max_age": ["red"]}}, r"max_age must be of all, key:HASH, team:ID"),
        ({"request_control": {"max-age": "all"}}, "did you mean request_control.max_age"),
        ({"store": {"max_bytes": 0}}, r"store\.max_bytes must be greater"),
        (
            {"store": {"max_bytes": 999_999}},
            "store must be with a max_bytes of at least",
        ),
        ({"store": {"max_entries": 0}}, r"store\.max_entries must be greater"),
    ],
)
def test_load_of_a_wrong_bound_or_right_says_what_would_be_one(
    section: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(section, {})


def test_load_of_no_bound_is_none() -> None:
    assert load({"store": {"max_entries": None}}, {}).store.max_entries is None


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ({"url": "qdrant.example:6333"}, "store.url must be an address like"),
        ({"url": "https://me:the-password@qdrant.example"}, "without user, password"),
        ({"url": "https://qdrant.example/?key=the-password"}, "without user, password"),
        ({"api_key": ["the-password"]}, "store.api_key must be"),
        ({"replication_factor": 2, "write_consistency_factor": 3}, "at most replication_factor, 2"),
        ({"collection": "../other"}, "store.collection must"),
        ({"quantization": "int4"}, "store.quantization must be 'none' or 'int8'"),
    ],
    ids=["scheme", "user", "query", "key", "copies", "name", "kind"],
)
def test_wrong_setting_of_a_server_is_explained_without_its_secrets(
    store: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load({"store": store}, {})
    assert "the-password" not in str(caught.value)


def test_bound_counts_for_a_server_only_where_it_is_set() -> None:
    assert load({}, {}).store.bound is None
    assert load({"store": {"max_entries": 7}}, {}).store.bound == 7
