"""Classes of questions whose answer changes, and patterns that no question can make slow."""

import re
import subprocess
import sys
from typing import Any

import pytest

from nearhit.config import load
from nearhit.decision import Bypass
from nearhit.errors import ConfigError
from nearhit.freshness import SEARCHED, check_pattern
from nearhit.request import Policy, Question, freshness_rule, read

SPORT = {"name": "sport", "words": ["score", "league table"], "ttl_s": 60}
TICKETS = {"name": "tickets", "patterns": [r"\b[A-Z]{2,5}-\d+\b", "^status of"], "bypass": True}
SLOW = {"name": "prices", "words": ["cost"], "ttl_s": 3600}


def asked(text: str, *classes: dict[str, Any]) -> int | str | None:
    """Read a question: its life, or why it is bypassed."""
    settings = load({"freshness": [], "freshness_classes": list(classes)}, {})
    rules = tuple(
        freshness_rule(one.words, one.patterns, one.ttl_s) for one in settings.freshness_classes
    )
    policy = Policy(max_turns=4, max_temperature=1.0, freshness=None, classes=rules)
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    found = read(body, ("key", "a"), policy, b"secret")
    if isinstance(found, Bypass):
        return found.reason
    assert isinstance(found, Question)
    return found.ttl_s


@pytest.mark.parametrize(
    ("text", "life"),
    [
        ("What is the SCORE?", 60),
        ("Show the league\n table", 60),
        ("How do I score a goal, and what does it cost?", 60),
        ("What does it cost?", 3600),
        ("What became of abc-12?", "freshness"),
        ("Status of my build", "freshness"),
        ("What does ABC-12 cost?", "freshness"),
        ("Tell me the status of my build", None),
        ("What is an underscore?", None),
        ("How do I bake bread?", None),
    ],
)
def test_question_has_the_strictest_life_of_its_classes(text: str, life: int | str | None) -> None:
    assert asked(text, SPORT, TICKETS, SLOW) == life


def test_class_is_found_at_the_beginning_and_at_the_end_of_a_long_question() -> None:
    filler = "word " * SEARCHED
    assert asked(f"score {filler}", SPORT) == 60
    assert asked(f"{filler} score", SPORT) == 60
    assert asked(f"{filler} score {filler}", SPORT) is None


def test_classes_stand_beside_the_list_of_words_that_are_never_cached() -> None:
    settings = load({"freshness_classes": [SPORT]}, {})
    assert "weather" in settings.freshness
    assert settings.freshness_classes[0].ttl_s == 60


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+",
        "(a*)*b",
        "(?:a|a)*$",
        "(?:a|b|ab)*c",
        r"(\w+\s?)*$",
        ".*.*=.*",
        ".*x.*y",
        r"\s*,\s*;",
        "(x+x+)+y",
        r"(.)\1",
        r"(?P<a>x)(?(a)y|z)",
        "(?:a?){30}a{30}",
        "(?=(a+)+b)",
        "((a{0,40}){0,40}){0,40}",
        "(?>a+b?)+c",
        "(?:a++)+a*b*",
    ],
)
def test_pattern_that_a_question_could_make_slow_is_refused_at_the_start(pattern: str) -> None:
    section = {"freshness_classes": [{"name": "x", "patterns": [pattern], "ttl_s": 5}]}
    with pytest.raises(ConfigError, match=r"freshness_classes\.0\.patterns must be regular expr"):
        load(section, {})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "x", "patterns": ["("], "ttl_s": 5}, r"patterns must be regular .*unterminated"),
        ({"name": "x", "patterns": ["a" * 201], "ttl_s": 5}, "patterns must be of 1 to 200 char"),
        ({"name": "x", "patterns": [""], "ttl_s": 5}, "patterns must be of 1 to 200 char"),
        ({"name": "x", "words": ["a"]}, "must be with either bypass: true or a ttl_s"),
        ({"name": "x", "words": ["a"], "bypass": True, "ttl_s": 5}, "with either bypass: true"),
        ({"name": "x", "ttl_s": 5}, "must be with words or patterns"),
        ({"name": "x", "words": [" "], "ttl_s": 5}, "must be with words or patterns"),
        ({"name": "x", "words": ["a"], "ttl_s": 0}, r"0\.ttl_s must be greater"),
        ({"name": "Two words", "words": ["a"], "ttl_s": 1}, r"0\.name must be"),
        ({"name": "x", "words": ["a"], "ttl": 1}, r"0\.ttl is not a setting"),
    ],
)
def test_class_that_is_wrong_is_named_with_its_rule(section: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load({"freshness_classes": [section]}, {})


@pytest.mark.parametrize(
    "pattern",
    [
        r"\bv\d+\.\d{1,3}\b",
        "prices? of .{0,40} today",
        r"(?:monday|tuesday) \w+",
        "[a-z]+@",
        "(?:foo )+bar",
        r"(?<!\w)EUR/USD(?!\w)",
        r"(?i)ticket \d{4,8}",
        "a|b|c",
    ],
)
def test_pattern_that_is_harmless_is_taken(pattern: str) -> None:
    assert check_pattern(pattern) == pattern
    assert re.compile(pattern)


HOSTILE = """
import sys
from nearhit.freshness import SEARCHED, check_pattern, matching
from nearhit.request import freshness_rule

patterns = [r"\\w+x?!", "[a-z]+@", ".*=", "(?:a|b).{0,900}!"]
patterns += [r"\\s+;", r"(?:aa)+b", r"\\w+\\w{0,8}!"]
rules = [freshness_rule([], [check_pattern(one)], 5) for one in patterns]
for fill in ("a", "aa ", " ", "ab", "\\n", "=", "aaaaaaaaaaaaaaab"):
    matching(fill * 400_000, rules)
print("done")
"""


def test_worst_pattern_that_is_taken_ends_on_hostile_text() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
