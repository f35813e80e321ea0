"""The `nearhit` command.

nearhit check router_config.yaml     validate the settings and show those in force
nearhit build                        make the encoder's artefact now instead of at the first start
nearhit encode FILE                  show vectors and similarities
nearhit reembed                      give stored questions vectors of a new encoder
nearhit migrate                      copy the embedded store into a Qdrant server
nearhit report                       what was served, or would have been, and what was wrong
nearhit calibrate                    label decisions, find the threshold that keeps a precision
nearhit export                       decisions as training data, or all stored answers
nearhit stats, explain, flush, delete, feedback, valves     talk to a running proxy
nearhit entries, warm                look at stored answers, store answers from elsewhere
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nearhit import __version__, config, entry_commands, migrate, remote
from nearhit.encoder.commands import add_commands
from nearhit.errors import ConfigError, NearhitError
from nearhit.evidence import commands as evidence

_EXAMPLES = """examples:
  nearhit check router_config.yaml          are the settings right, and what is in force?
  nearhit check --json router_config.yaml   the same for a script
  nearhit build router_config.yaml          fetch base weights and build the encoder, once
  nearhit build --base org/base --adapter org/adapter --out encoder   an encoder to copy elsewhere
  nearhit encode questions.txt              vectors and similarities, one text a line
  nearhit reembed router_config.yaml        after a change of base, adapter or precision
  nearhit migrate router_config.yaml --to https://qdrant.example:6333   before `store.url` is set
  nearhit report router_config.yaml         after some days of `mode: shadow`: would it be right?
  nearhit calibrate router_config.yaml --judge gpt-4o --write   a threshold from your own traffic
  nearhit explain "How do I sort a list?" --model gpt-4o-mini   a hit or a miss, and why
  nearhit flush --model gpt-4o-mini         forget what that model group has answered
  nearhit valves --open wrong_share         serve in other words again, before the trial does
  nearhit entries --meaning "clean a kettle"                    the stored questions nearest to it
  nearhit warm faq.jsonl --model gpt-4o-mini --tenant team red  answers before anybody asks
  nearhit export router_config.yaml --out decisions.jsonl       for `nearhit-train mine`
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0, 1 for a fault found, 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="nearhit",
        description="Semantic response caching for the LiteLLM proxy.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nearhit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="validate a proxy config's nearhit settings")
    check.add_argument("config", type=Path, help="the YAML file that `litellm --config` reads")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=_check)
    add_commands(commands)
    migrate.add_commands(commands)
    evidence.add_commands(commands)
    remote.add_commands(commands)
    entry_commands.add_commands(commands)
    options = parser.parse_args(argv)
    try:
        return int(options.run(options))
    except NearhitError as error:
        print(f"nearhit: {error}", file=sys.stderr)
        return 1


def _check(options: argparse.Namespace) -> int:
    parsed = config.read_config(options.config)
    settings = config.load(config.read_section(parsed))
    if not _is_switched_on(parsed):
        raise ConfigError(
            f"litellm_settings.callbacks must name {config.CALLBACK}, "
            f"got {_callbacks(parsed) or 'nothing'}; add `callbacks: {config.CALLBACK}`"
        )
    shown = settings.model_dump(mode="json")
    if options.json:
        print(json.dumps(shown, indent=2))
    else:
        print(f"{options.config} is valid. Settings in force (* differs from the default):")
        default = config.Settings().model_dump(mode="json")
        for name, value in _flatten(shown).items():
            mark = " " if _flatten(default)[name] == value else "*"
            print(f" {mark} {name:<28} {_brief(value)}")
    for line in config.unknown_variables():
        print(f"warning: {line}", file=sys.stderr)
    return 0


def _callbacks(parsed: dict[str, Any]) -> list[Any]:
    settings = parsed.get("litellm_settings")
    value = settings.get("callbacks") if isinstance(settings, dict) else None
    return value if isinstance(value, list) else [value] if value else []


def _is_switched_on(parsed: dict[str, Any]) -> bool:
    return config.CALLBACK in _callbacks(parsed)


def _flatten(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{above}{name}."))
        else:
            flat[above + name] = value
    return flat


def _brief(value: Any) -> str:
    if isinstance(value, list):
        value = [one["name"] if isinstance(one, dict) else one for one in value]
        if not value:
            return "none"
        return f"{len(value)}: {', '.join(value[:4])}{', ...' if len(value) > 4 else ''}"
    return "unset" if value is None else str(value)
