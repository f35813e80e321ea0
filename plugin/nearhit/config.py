"""The settings of nearhit: one frozen model, read once at start-up.

They stand in the proxy's own YAML, where LiteLLM keeps the settings of a callback:

    callback_settings:
      nearhit:
        target_precision: 0.99

or in a section `nearhit:` at the top level. An environment variable wins over the file:
`NEARHIT_TARGET_PRECISION`, `NEARHIT_ENCODER__THREADS` (two underscores between levels).
A value `os.environ/NAME` in the file is read from the environment, as everywhere in LiteLLM.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from nearhit import freshness, guards
from nearhit.errors import ConfigError

SECTION = "nearhit"
CALLBACK = "nearhit.hook.proxy_hook"
_ENV_PREFIX = "NEARHIT_"
_ENV_RESERVED = ("NEARHIT_TEST_", "NEARHIT_PROXY_KEY")  # read elsewhere
_LITELLM_ENV = "os.environ/"
_SECRET_CHARS = 16
_MAX_SEALED_BYTES = 6_000_000
_CALLER = re.compile(r"(key|team|org|user):\S.*")

# Questions whose right answer changes by the hour or by the person. Matched as whole words.
DEFAULT_FRESHNESS = (
    "today",
    "tonight",
    "tomorrow",
    "yesterday",
    "right now",
    "open now",
    "who is the current",
    "current time",
    "current date",
    "what's the time",
    "what day is it",
    "currently",
    "at the moment",
    "latest",
    "this week",
    "this month",
    "this year",
    "up to date",
    "what time is it",
    "what date is it",
    "weather",
    "forecast",
    "news",
    "price of",
    "prices",
    "current price",
    "stock price",
    "exchange rate",
    "my account",
    "my balance",
    "my order",
    "my subscription",
)


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for the store, the encoder artefact and the installation's secret.

    Source: XDG Base Directory Specification 0.8, `XDG_DATA_HOME`.
    """
    home = environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "nearhit"


def _expand(path: Path) -> Path:
    return path.expanduser().absolute()


def _split_lines(value: object) -> object:
    """Accept `a, b` from the environment where the file has a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < _SECRET_CHARS:
        raise ValueError(f"at least {_SECRET_CHARS} characters long")
    return secret


def _server(url: str) -> str:
    """Accept the address of a server without credentials, which would end up in logs."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an address like https://qdrant.example:6333")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("without user, password and query; the key stands in store.api_key")
    return url.rstrip("/")


def _known_guards(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in guards.GUARDS:
            raise ValueError(f"of {', '.join(guards.GUARDS)}")
    return names


def _known_callers(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        if word != "all" and not _CALLER.fullmatch(word):
            raise ValueError("of all, key:HASH, team:ID, org:ID and user:ID")
    return words


def _safe_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(freshness.check_pattern, patterns))


Secret = Annotated[SecretStr, AfterValidator(_long_enough)]
Folder = Annotated[Path, AfterValidator(_expand)]
Url = Annotated[str, AfterValidator(_server)]
Words = Annotated[tuple[str, ...], BeforeValidator(_split_lines)]
Guards = Annotated[Words, AfterValidator(_known_guards)]
Callers = Annotated[Words, AfterValidator(_known_callers)]
Patterns = Annotated[tuple[str, ...], AfterValidator(_safe_patterns)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EncoderSettings(_Frozen):
    """What turns a question into a vector."""

    base: str = Field(
        default="all-MiniLM-L6-v2",
        min_length=1,
        description="all-MiniLM-L6-v2, a folder, or a hub name `org/name`",
    )
    adapter: str | None = Field(
        default="auto",
        min_length=1,
        description="LoRA adapter to merge into the base: auto, a folder, a hub name, null; "
        "auto: the shipped one where it fits",
    )
    artefact: Folder | None = Field(
        default=None,
        description="folder that `nearhit build --out` wrote; it then decides base to multilingual",
    )
    precision: Literal["fp16", "int8"] = Field(
        default="fp16", description="number format of the weights: fp16 (45 MB) or int8 (24 MB)"
    )
    multilingual: bool = Field(
        default=False,
        description="whether base and adapter know more languages than English; others: exact only",
    )
    verifier: str | None = Field(
        default="auto",
        min_length=1,
        description="what reads both questions of a near pair: auto, a folder, a hub name; "
        "auto: the shipped one where it fits",
    )
    threads: int = Field(
        default=1, ge=1, le=64, description="CPU threads for one encoding; the proxy needs the rest"
    )
    max_pending: int = Field(
        default=64, ge=1, le=10_000, description="questions that may wait; more are misses"
    )
    repeats_bytes: int = Field(
        default=4 * 2**20,
        ge=0,
        le=2**30,
        description="memory for vectors of questions seen before, bytes (1,800 each); 0: none",
    )


class StoreSettings(_Frozen):
    """Where answers are kept."""

    max_entries: int | None = Field(
        default=50_000,
        ge=1,
        le=10_000_000,
        description="bound on entries; those least asked for, and longest ago, go; null: none",
    )
    max_bytes: int | None = Field(
        default=None,
        ge=1,
        le=2**50,
        description="bound on bytes of questions, answers and vectors, likewise; unset: none",
    )
    max_entry_bytes: int = Field(
        default=1_000_000,
        ge=1_000,
        le=8_000_000,
        description="largest question plus answer that is stored, bytes",
    )
    prompts: Literal["full", "encrypted", "hashed"] = Field(
        default="full",
        description="questions and answers at rest: as they are, both encrypted, or encrypted "
        "answers without questions (only exact repeats hit)",
    )
    max_pending: int = Field(
        default=256, ge=1, le=10_000, description="calls in flight; more are misses"
    )
    url: Url | None = Field(
        default=None,
        description="a Qdrant server or cluster, http(s)://host:port; unset: the embedded store",
    )
    api_key: SecretStr | None = Field(
        default=None, description="of that server; best os.environ/NAME or NEARHIT_STORE__API_KEY"
    )
    collection: str = Field(
        default="nearhit",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$",
        description="its collection, made if there is none",
    )
    prefer_grpc: bool = Field(
        default=False, description="gRPC instead of REST: less CPU a call, another port"
    )
    grpc_port: int = Field(default=6334, ge=1, le=65_535, description="of that server")
    timeout_ms: int = Field(
        default=100, ge=1, le=10_000, description="most that one read of that server may take"
    )
    shards: int | None = Field(
        default=None, ge=1, le=10_000, description="of a new collection; unset: the server decides"
    )
    replication_factor: int = Field(
        default=1, ge=1, le=100, description="copies of each shard of a new collection"
    )
    write_consistency_factor: int = Field(
        default=1, ge=1, le=100, description="copies that must acknowledge a write"
    )
    quantization: Literal["none", "int8"] = Field(
        default="none", description="of a new collection: int8 in memory, the vectors on disk"
    )

    @model_validator(mode="after")
    def _copies_suffice(self) -> Self:
        if self.write_consistency_factor > self.replication_factor:
            raise ValueError(
                f"of a write_consistency_factor of at most replication_factor, "
                f"{self.replication_factor}"
            )
        return self

    @model_validator(mode="after")
    def _sealed_fits(self) -> Self:
        if self.prompts != "full" and self.max_entry_bytes > _MAX_SEALED_BYTES:
            raise ValueError(
                f"with a max_entry_bytes of at most {_MAX_SEALED_BYTES} where prompts is "
                f"{self.prompts}: encrypted they take a third more"
            )
        return self

    @property
    def bound(self) -> int | None:
        """`max_entries` where it is set: its default is for the embedded store alone."""
        return self.max_entries if "max_entries" in self.model_fields_set else None

    @model_validator(mode="after")
    def _bound_holds_an_entry(self) -> Self:
        if self.max_bytes is not None and self.max_bytes < self.max_entry_bytes:
            raise ValueError(
                f"with a max_bytes of at least max_entry_bytes, {self.max_entry_bytes}, so that "
                f"one answer fits"
            )
        return self


class EvidenceSettings(_Frozen):
    """What is written down of the decisions, and who judges them."""

    decisions: int = Field(
        default=10_000,
        ge=0,
        le=1_000_000,
        description="newest decisions kept in data_dir, with questions and answers; 0: none",
    )
    near: float = Field(
        default=0.5, ge=0, le=1, description="confidence from which a miss is kept among them"
    )
    verify_per_hour: int = Field(
        default=60, ge=1, le=100_000, description="most hits that one worker has verified an hour"
    )
    judge: str | None = Field(
        default=None,
        min_length=1,
        description="model group of this proxy that compares the answers; unset: they are kept",
    )
    wrong_called_right: float = Field(
        default=0.0, ge=0, lt=0.5, description="share of wrong answers that the judge lets pass"
    )
    right_called_wrong: float = Field(
        default=0.0, ge=0, lt=0.5, description="share of right answers that the judge calls wrong"
    )


class ValveSettings(_Frozen):
    """Beyond which bounds serving in other words stops, and for how long."""

    hit_ratio: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of a tenant's requests in a window that hit in other words, at most; "
        "null: any",
    )
    min_requests: int = Field(
        default=200, ge=10, le=1_000_000, description="requests from which hit_ratio is judged"
    )
    questions_per_entry: int | None = Field(
        default=1000,
        ge=2,
        le=10_000,
        description="different questions that one entry answers in other words in a window, at "
        "most; null: any",
    )
    wrong_share: float | None = Field(
        default=0.25,
        gt=0,
        lt=1,
        description="share of a tenant's hits in other words in a window that was found wrong, at "
        "most; null: any",
    )
    min_wrong: int = Field(
        default=5, ge=2, le=10_000, description="wrong hits from which wrong_share is judged"
    )
    window_s: int = Field(
        default=3600, ge=10, le=86_400, description="how long is counted before counting anew"
    )
    retry_after_s: int = Field(
        default=300, ge=1, le=86_400, description="how long a valve is shut before its trial"
    )
    trial_hits: int = Field(
        default=20, ge=1, le=10_000, description="hits that a trial serves before it is judged"
    )


class RequestControl(_Frozen):
    """Which callers may ask what of the cache, by header or LiteLLM's `cache` field.

    Each is a list of `all`, `key:HASH`, `team:ID`, `org:ID`, `user:ID`.
    """

    no_cache: Callers = Field(
        default=("all",), description="who may have the model asked though an answer is stored"
    )
    no_store: Callers = Field(
        default=("all",), description="who may have the cache kept out of a request"
    )
    max_age: Callers = Field(
        default=(), description="who may refuse stored answers above an age of their choice"
    )
    only_if_cached: Callers = Field(
        default=(), description="who may ask for a stored answer or none (504)"
    )
    ttl: Callers = Field(default=(), description="who may shorten the life of their answers")


class FreshnessClass(_Frozen):
    """A kind of questions whose answer changes, by words and patterns."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="for people alone")
    words: Words = Field(default=(), description="words and phrases, matched whole in any case")
    patterns: Patterns = Field(
        default=(), description="regular expressions, searched in any case, 200 characters at most"
    )
    bypass: bool = Field(default=False, description="whether such a question is never cached")
    ttl_s: int | None = Field(
        default=None, ge=1, le=31_536_000, description="most that an answer to one may be old"
    )

    @model_validator(mode="after")
    def _says_what_and_how(self) -> Self:
        if not (any(word.split() for word in self.words) or self.patterns):
            raise ValueError("with words or patterns")
        if self.bypass == (self.ttl_s is not None):
            raise ValueError("with either bypass: true or a ttl_s")
        return self


class ModelSettings(_Frozen):
    """What is different for one model group; unset: as for all."""

    mode: Literal["on", "shadow", "off"] | None = None
    target_precision: float | None = Field(default=None, gt=0.5, lt=1)
    confidence_threshold: float | None = Field(default=None, gt=0, le=1)
    ttl_s: int | None = Field(default=None, ge=1, le=31_536_000)


class Settings(_Frozen):
    """All settings of nearhit. Every one has a default that works."""

    mode: Literal["on", "shadow", "off"] = Field(
        default="on",
        description="`shadow` decides and serves nothing, `off` passes everything through",
    )
    data_dir: Folder = Field(
        default_factory=default_data_dir, description="folder for store, artefact and secret"
    )
    secret: Secret | None = Field(
        default=None,
        description="keys the digests and signatures; unset: made once and kept in data_dir",
    )
    scope: Literal["key", "team", "org", "end_user", "global"] = Field(
        default="key", description="who shares answers, as LiteLLM authenticated them"
    )
    target_precision: float = Field(
        default=0.99,
        gt=0.5,
        lt=1,
        description="share of answers in other words that must be right; the verifier sees to it",
    )
    confidence_threshold: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="confidence from which another wording hits, instead of target_precision",
    )
    similarity_threshold: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="cosine from which another wording hits, without asking the verifier",
    )
    guards: Guards = Field(
        default=guards.DEFAULT,
        description="what forbids a hit: " + ", ".join(guards.GUARDS),
    )
    candidates: int = Field(
        default=3, ge=1, le=50, description="nearest entries that are looked at for one question"
    )
    ttl_s: int = Field(
        default=86_400,
        ge=1,
        le=31_536_000,
        description="life of an answer, seconds; never extended",
    )
    deadline_ms: int = Field(
        default=150,
        ge=1,
        le=10_000,
        description="most that a look-up may take; past it the model is called",
    )
    coalesce_wait_s: float = Field(
        default=10.0,
        ge=0,
        le=600,
        description="how long an identical question waits for the first one; 0: not at all",
    )
    max_turns: int = Field(
        default=10,
        ge=0,
        le=10_000,
        description="earlier user and assistant messages above which only exact repeats hit",
    )
    max_temperature: float = Field(
        default=1.0, ge=0, le=2, description="temperature above which only exact repeats hit"
    )
    freshness: Words = Field(
        default=DEFAULT_FRESHNESS,
        description="words that mark a question whose answer changes; never cached",
    )
    freshness_classes: tuple[FreshnessClass, ...] = Field(
        default=(),
        description="further kinds of questions, each with words or patterns, and bypass or ttl_s",
    )
    request_control: RequestControl = RequestControl()
    verify_sample: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of hits in other words that the model answers too, to be compared",
    )
    encoder: EncoderSettings = EncoderSettings()
    store: StoreSettings = StoreSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    valves: ValveSettings = ValveSettings()
    models: dict[str, ModelSettings] = Field(
        default={},
        description="by model group: mode, target_precision, confidence_threshold, ttl_s",
    )

    @model_validator(mode="after")
    def _models_fit(self) -> Self:
        for name, own in self.models.items():
            if self.similarity_threshold is not None and (
                own.target_precision or own.confidence_threshold
            ):
                raise ValueError(
                    f"without target_precision and confidence_threshold for {name} where "
                    f"similarity_threshold decides"
                )
        return self

    @model_validator(mode="after")
    def _hashed_is_exact(self) -> Self:
        if self.store.prompts == "hashed":
            asked = {
                "similarity_threshold": self.similarity_threshold,
                "confidence_threshold": self.confidence_threshold,
                "verify_sample": self.verify_sample,
                **{
                    f"models.{name}.confidence_threshold": own.confidence_threshold
                    for name, own in self.models.items()
                },
            }
            for name, value in asked.items():
                if value:
                    raise ValueError(
                        f"without {name} where store.prompts is hashed: no question is kept that "
                        f"another wording could be compared with; encrypted keeps them"
                    )
        return self

    @property
    def is_alone(self) -> bool:
        """Whether a client shares its answers with nobody: its word about one then holds."""
        return self.scope in ("key", "end_user")

    def of_model(self, name: str) -> "Settings":
        """Return the settings that hold for a model group; its own target goes before all."""
        own = self.models.get(name)
        if own is None:
            return self
        changed = own.model_dump(exclude_none=True)
        if own.target_precision is not None:
            changed.setdefault("confidence_threshold", None)
        return self.model_copy(update=changed)


def load(section: Mapping[str, Any] | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Merge the file's section with the environment and validate the result.

    Raises:
        ConfigError: naming the key, the rule, the value and the remedy, one line a fault.
    """
    if section is not None and not isinstance(section, Mapping):
        raise ConfigError(
            f"{SECTION} must be a mapping of settings, got {_show(section)}; "
            f"write `{SECTION}:` with one `key: value` a line below it"
        )
    values = _resolve({str(key): value for key, value in (section or {}).items()}, environ, ())
    for path, value in _from_environment(environ):
        target = values
        for level in path[:-1]:
            target = target.setdefault(level, {})
            if not isinstance(target, dict):
                raise ConfigError(
                    f"{level} must be a mapping of settings, got {_show(target)}; "
                    f"NEARHIT_{'__'.join(path).upper()} sets a key inside it"
                )
        target[path[-1]] = value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        faults = [_explain(fault, values) for fault in error.errors(include_url=False)]
        raise ConfigError("\n".join(faults)) from None


def read_section(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Find nearhit's section in a parsed proxy config.

    Raises:
        ConfigError: when it stands in both places.
    """
    callback_settings = config.get("callback_settings")
    inside = callback_settings.get(SECTION) if isinstance(callback_settings, Mapping) else None
    beside = config.get(SECTION)
    if inside is not None and beside is not None:
        raise ConfigError(
            f"{SECTION} must stand in one place, got both callback_settings.{SECTION} and "
            f"{SECTION}; delete one of them"
        )
    return inside if inside is not None else beside


def load_file(path: Path | None) -> Settings:
    """Read the settings of a proxy config file; without one, defaults and environment.

    Raises:
        ConfigError: as `read_config`, `read_section` and `load`.
    """
    return load(None if path is None else read_section(read_config(path)))


def read_config(path: Path) -> dict[str, Any]:
    """Parse a proxy config file.

    Raises:
        ConfigError: when the file is missing or no YAML mapping.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"config must be a readable file, got {path}: {error.strerror}; check the path"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} must be YAML; {_first_line(error)}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} must be a mapping at the top level, got {_show(config)}")
    return config


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Name the `NEARHIT_` variables that set nothing, each with the nearest one that does.

    They are no error: Kubernetes adds variables named after services of its own accord.
    """
    known = [_ENV_PREFIX + "__".join(path).upper() for path in _paths(Settings)]
    lines = []
    for name in sorted(environ):
        ours = name.startswith(_ENV_PREFIX) and not name.startswith(_ENV_RESERVED)
        if ours and name not in known:
            lines.append(f"{name} sets nothing{_nearest(name, known)}")
    return lines


def _paths(model: type[BaseModel], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += _paths(inner, (*above, name))
        else:
            found.append((*above, name))
    return found


def _from_environment(environ: Mapping[str, str]) -> list[tuple[tuple[str, ...], str]]:
    names = {_ENV_PREFIX + "__".join(path).upper(): path for path in _paths(Settings)}
    return [(path, environ[name]) for name, path in names.items() if name in environ]


def _resolve(
    values: dict[str, Any], environ: Mapping[str, str], above: tuple[str, ...]
) -> dict[str, Any]:
    """Replace `os.environ/NAME` and copy, so that the caller's mapping stays as it was."""
    resolved: dict[str, Any] = {}
    for key, value in values.items():
        path = (*above, key)
        if isinstance(value, Mapping):
            value = _resolve({str(k): v for k, v in value.items()}, environ, path)
        elif isinstance(value, str) and value.startswith(_LITELLM_ENV):
            name = value.removeprefix(_LITELLM_ENV)
            if name not in environ:
                raise ConfigError(
                    f"{'.'.join(path)} must name a variable that is set, got {name}; "
                    f"export {name} or write the value itself"
                )
            value = environ[name]
        resolved[key] = value
    return resolved


def _explain(fault: Any, values: Mapping[str, Any]) -> str:
    path = [str(part) for part in fault["loc"]] or [SECTION]
    name = ".".join(path)
    if fault["type"] == "extra_forbidden":
        known = [".".join(known_path) for known_path in _paths(Settings)]
        return f"{name} is not a setting{_nearest(name, known)} (`nearhit check` lists all)"
    field = _field(path)
    if fault["type"] == "value_error" and (path == [SECTION] or path == ["store"]):
        # Of several that do not fit together: a secret may be among them.
        return f"{name} must be {_rule(fault)}; correct one of them"
    # A secret's value must not reach a log, so it is named but never shown.
    is_secret = path[-1] in ("secret", "api_key", "url", "store")
    shown = "a value that is not shown" if is_secret else _show(fault["input"])
    meaning = f" ({field.description})" if field and field.description else ""
    default = field.get_default(call_default_factory=True) if field else None
    leave = "" if default is None else f" or leave it out for the default {_show(default)}"
    return f"{name} must be {_rule(fault)}, got {shown}; correct it{leave}{meaning}"


def _rule(fault: Any) -> str:
    message = re.sub(r"^(Value error, |\w+ should (be |have )?)", "", fault["msg"])
    return message[:1].lower() + message[1:]


def _field(path: list[str]) -> Any:
    model: type[BaseModel] = Settings
    field = None
    for part in path:
        field = model.model_fields.get(part)
        if field is None:
            return None
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
        else:
            return field
    return field


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not close and "." not in name:
        close = [path for path in known if path.rsplit(".", 1)[-1] == name][:1]
    return f", did you mean {close[0]}?" if close else ""


def _show(value: object) -> str:
    text = str(value) if isinstance(value, Path) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
