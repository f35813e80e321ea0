"""The commands that talk to a running proxy: stats, explain, flush, delete, feedback, valves.

They call the routes of `api` with the key in NEARHIT_PROXY_KEY.
"""

import argparse
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import httpx

from nearhit.errors import ConfigError, StoreError
from nearhit.evidence.report import printable

KEY: Final = "NEARHIT_PROXY_KEY"
_TIMEOUT_S: Final = 30.0
_WIDTH: Final = 78
_SPANS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LISTED: Final = 10  # teams and keys that saved most


def add_commands(commands: Any) -> None:
    """Add the commands to the parser's subparsers."""
    stats = commands.add_parser("stats", help="requests, tokens and entries of a running proxy")
    explain = commands.add_parser("explain", help="what would become of a question, and why")
    explain.add_argument("question")
    explain.add_argument("--model", required=True, help="the model group that is asked")
    explain.add_argument("--system", help="the system prompt that goes before the question")
    flush = commands.add_parser("flush", help="forget answers: all, or of a model, tenant or text")
    what = flush.add_mutually_exclusive_group(required=True)
    what.add_argument("--all", action="store_true", default=None)
    what.add_argument("--model", help="a model group")
    what.add_argument("--tenant", nargs=2, metavar=("KIND", "ID"), help="key, team, org and its id")
    what.add_argument("--text", help="a question, to the letter, whoever asked it")
    flush.add_argument(
        "--before",
        metavar="TIME",
        help="only answers given before: ISO 8601, UTC where it says no"
        " zone, or 30s, 15m, 2h, 7d ago",
    )
    delete = commands.add_parser("delete", help="forget one answer")
    delete.add_argument("entry", help="the x-nearhit-entry of an answer")
    feedback = commands.add_parser("feedback", help="say that an answer was wrong, or right")
    feedback.add_argument("decision", help="the x-nearhit-decision of an answer")
    feedback.add_argument("label", choices=("wrong", "right"))
    valves = commands.add_parser("valves", help="which safety valves are shut, and why; open them")
    valves.add_argument(
        "--open", choices=("hit_ratio", "questions_per_entry", "wrong_share", "all"), dest="name"
    )
    valves.add_argument("--of", help="only for this tenant or entry, as it is listed")
    for parser, run in (
        (stats, _stats),
        (explain, _explain),
        (flush, _flush),
        (delete, _delete),
        (feedback, _feedback),
        (valves, _valves),
    ):
        add_proxy(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.set_defaults(run=run)


def add_proxy(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where the proxy is."""
    parser.add_argument("--proxy", default="http://127.0.0.1:4000", help="where it listens")


def call(
    options: argparse.Namespace,
    method: str,
    path: str,
    body: Any = None,
    query: Mapping[str, Any] | None = None,
) -> Any:
    """Call a route.

    Raises:
        ConfigError: there is no key.
        StoreError: the proxy does not answer, or refuses.
    """
    key = os.environ.get(KEY, "")
    if not key:
        raise ConfigError(f"{KEY} must be a key of the proxy, got nothing; export one")
    try:
        response = httpx.request(
            method,
            f"{options.proxy.rstrip('/')}/nearhit/{path}",
            json=body,
            params=query,
            headers={"authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_S,
            trust_env=False,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StoreError(
            f"--proxy must be a proxy with nearhit, got {type(error).__name__} from "
            f"{options.proxy}; check where it listens"
        ) from None
    if response.status_code != 200:
        raise StoreError(
            f"{method} /nearhit/{path} was refused with {response.status_code}: "
            f"{printable(response.text[:200])}"
        )
    return response.json()


def _stats(options: argparse.Namespace) -> int:
    found = call(options, "GET", "stats")
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    counts: dict[str, int] = {}
    for row in found["tally"]:
        counts[row["outcome"]] = counts.get(row["outcome"], 0) + row["requests"]
    asked = sum(counts.values())
    print(f"{asked} requests in {found['days']} days, {found['entries']} answers held")
    if held := found["store"]:  # a server counts them itself
        print(
            f"{held['bytes']:,} bytes of answers; removed: {held['evicted']} evicted, "
            f"{held['expired']} expired, {held['flushed']} flushed"
        )
    for name, count in sorted(counts.items()):
        print(f"  {name:<18} {count:>8}  {100 * count / asked:5.1f} %")
    live = found["live_wrong_share"]
    total = found["savings"]["total"]
    print(f"saved by hits            {_saved(total)}")
    print(f"spent on chat requests   ${total['spent_usd']:.4f}")
    for what in ("team", "key"):
        for one in found["savings"][f"{what}s"][:_LISTED]:
            print(f"  {what:<5} {printable(one['name'])[:32]:<32}  {_saved(one)}")
    print(f"quarantined questions    {found['quarantined']}")
    if live["labels"]:
        low, high = 100 * live["low"], 100 * live["high"]
        print(f"wrong among verified     {100 * live['value']:.1f} % ({low:.1f} to {high:.1f})")
    if found["tightened"]:
        print(f"tightened to confidence  {found['tightened']:.4f}")
    _list_valves(found["valves"])
    return 0


def _list_valves(shut: list[dict[str, Any]]) -> None:
    for one in shut:
        state = "shut" if one["trial_at"] is None else "on trial"
        since = datetime.fromtimestamp(one["since"], UTC).isoformat(timespec="seconds")
        print(f"valve {one['valve']} {state} since {since} for {one['of']}: {one['why']}")


def _valves(options: argparse.Namespace) -> int:
    if options.name is None:
        if options.of is not None:
            raise ConfigError(f"--of must go with --open, got {printable(options.of)[:80]} alone")
        found = call(options, "GET", "valves")
        if options.json:
            print(json.dumps(found, indent=2))
        else:
            _list_valves(found["shut"])
            print(f"{len(found['shut'])} shut or on trial in the worker that answered")
        return 0
    body = {"open": options.name} | ({} if options.of is None else {"of": options.of})
    opened = call(options, "POST", "valves", body)
    print(json.dumps(opened) if options.json else f"opened {json.dumps(opened['opened'])}")
    return 0


def _saved(one: dict[str, Any]) -> str:
    return f"${one['saved_usd']:.4f}, {one['tokens']:,} tokens, about {one['seconds']:,.0f} s"


def _explain(options: argparse.Namespace) -> int:
    messages = [{"role": "system", "content": options.system}] if options.system else []
    messages.append({"role": "user", "content": options.question})
    found = call(options, "POST", "explain", {"model": options.model, "messages": messages})
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    print(f"{found['outcome']}: {found.get('kind') or found.get('reason')}")
    if found.get("candidates"):
        print("similarity  confidence  forbidden by  stored question")
    for one in found.get("candidates", []):
        text = printable(one["stored_question"])[:_WIDTH]
        veto = one["veto"] or "-"
        print(f"{one['similarity']:>10.4f}  {one['confidence']:>10.4f}  {veto:<12}  {text}")
    return 0


def _flush(options: argparse.Namespace) -> int:
    given = {
        "all": options.all,
        "model": options.model,
        "tenant": options.tenant,
        "text": options.text,
        "before": None if options.before is None else _time(options.before),
    }
    body = {name: value for name, value in given.items() if value is not None}
    found = call(options, "POST", "flush", body)
    print(json.dumps(found) if options.json else f"flushed {json.dumps(found['flushed'])}")
    return 0


def _time(text: str) -> str:
    """Return a point in time, or one a span ago, as ISO 8601 with a zone.

    Raises:
        ConfigError: it is neither.
    """
    try:
        if text[-1:] in _SPANS and text[:-1].isdecimal():
            span = timedelta(**{_SPANS[text[-1]]: int(text[:-1])})
            return (datetime.now(UTC) - span).isoformat()
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--before must be a time such as 2026-11-30T18:00Z, or 2h or 7d for so long ago, got "
            f"{text[:40]!r}; correct it"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()


def _delete(options: argparse.Namespace) -> int:
    try:
        entry = UUID(options.entry)  # nothing else may become part of a path
    except ValueError:
        raise ConfigError(
            f"entry must be the x-nearhit-entry of an answer, got {printable(options.entry)[:80]}; "
            f"`nearhit explain` shows it"
        ) from None
    found = call(options, "DELETE", f"entries/{entry}")
    print(json.dumps(found) if options.json else f"deleted {found['deleted']}")
    return 0


def _feedback(options: argparse.Namespace) -> int:
    body = {"decision": options.decision, "label": options.label}
    found = call(options, "POST", "feedback", body)
    print(json.dumps(found) if options.json else f"{found['decision']} is {found['label']}")
    return 0
