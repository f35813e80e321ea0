"""The report: one page that works offline, in which every text stays a text."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import browser
from nearhit_eval.cli import main
from nearhit_eval.decisions import measure
from nearhit_eval.files import write_json
from nearhit_eval.observing import Observation, Run, Seen
from nearhit_eval.sets import QuestionSet

MARKUP = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)> @js@ $x$"


def decisions(folder: Path, text: str = MARKUP) -> Path:
    """What `decisions` writes of five probes: served from .9 up are two right and one wrong."""
    one = QuestionSet("<b>mine", (("x", text),), ())
    seen = [
        (Seen("x", text, 0.99, 0.99, None), "x"),
        (Seen("x", text, 0.98, 0.95, None), "x"),
        (Seen("x", text, 0.97, 0.92, None), None),
        (Seen("x", "Is 500 mg safe?", 0.96, 0.9, "numbers"), None),
        (Seen("x", text, 0.5, 0.2, None), "x"),
    ]
    observed = [
        Observation(key, "Is 200 mg safe?", "x" if s.confidence > 0.91 else None, False, "", (s,))
        for s, key in seen
    ]
    sets = [QuestionSet(one.name, one.store, tuple((key, "q") for _, key in seen))]
    report = {"encoder": "e" * 64, **measure(sets, Run({one.name: observed}, (0.01,)), 0.91)}
    write_json(folder / "d.json", report)
    return folder / "d.json"


def encoder_of(margin: float) -> dict[str, Any]:
    gain = {"relative": True, "value": 0.2, "low": 0.1, "high": 0.3}
    numbers = {"positive": 0.9, "negative": 0.4, "margin": margin, "separation": 2.0, "auc": 0.9}
    return numbers | {
        "gain": None if margin == 0.5 else gain,
        "histogram": {"positive": [0] * 39 + [3], "negative": [3] + [0] * 39},
        "map": [[0.0, 0.0, 0, 0], [0.1, 0.2, 1, 0], [-0.4, 0.2, 2, 0]],
    }


def margins(folder: Path) -> Path:
    one = {"name": "s", "domain": "law & order", "kind": "groups", "positives": 3, "negatives": 3}
    encoders = {"baseline": encoder_of(0.5), "multi": encoder_of(0.6)}
    write_json(folder / "m.json", {"sets": [one | {"winner": "multi", "encoders": encoders}]})
    return folder / "m.json"


def replayed(folder: Path) -> Path:
    tiers = {"exact": 1, "semantic": 2, "coalesced": 0}
    combination = {
        "threshold": 0.99,
        "ttl_s": 60,
        "asked": 10,
        "hits": tiers,
        "wrong": tiers,
        "labelled": tiers,
        "wilson": {tier: [0.1, 0.2] for tier in tiers},
        "entries": 5,
        "saved_input_tokens": 7,
        "saved_output_tokens": 8,
        "saved_usd": 0.5,
        "slices": [{"end_s": 5.0, "asked": 10, "hits": tiers}],
    }
    stream = {"name": "s", "questions": 10, "repeats": "drawn", "times": "t", "sizes": "t"}
    document = {"stream": stream, "prices": {"model": "m"}, "combinations": [combination]}
    write_json(folder / "r.json", document)
    return folder / "r.json"


class Page(HTMLParser):
    """Counts elements and collects what would be fetched."""

    def __init__(self, written: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(written)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [
            f"{name}={value}"
            for name, value in attrs
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#")
        ]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    out = tmp_path / "out" / "report.html"
    argv = ["report", "--decisions", str(decisions(tmp_path)), "--out", str(out)]
    argv += ["--margins", str(margins(tmp_path)), "--replay", str(replayed(tmp_path))]
    assert main(argv) == 0
    return out


def test_report_is_one_file_that_fetches_nothing_and_runs_no_text(written: Path) -> None:
    page = Page(written.read_text("utf-8"))
    assert page.fetched == []
    assert page.tags.count("script") == 2
    assert page.tags.count("img") == 0
    assert page.tags.count("svg") == 5
    assert "law &amp; order" in written.read_text("utf-8")
    assert "&lt;img src=x onerror=alert(1)&gt; @js@ $x$" in written.read_text("utf-8")
    assert written.stat().st_size < 300_000


def test_numbers_stand_beside_the_page(written: Path) -> None:
    numbers = json.loads(written.with_suffix(".json").read_text("utf-8"))
    assert set(numbers["sha256"]) == {"d.json", "m.json", "r.json"}
    mine = numbers["decisions"]["sets"]["<b>mine"]
    assert mine["values"] == [[0.99, 1], [0.95, 1], [0.92, 0], [0.2, 1]]
    assert (mine["probes"], mine["must_hit"]) == (5, 3)
    assert numbers["decisions"]["vetoed"][0]["guards"] == ["numbers"]
    assert numbers["map"]["domain"] == "law & order"
    assert numbers["replay"]["combinations"][0]["saved_usd"] == 0.5


def test_same_inputs_give_the_same_page(tmp_path: Path) -> None:
    argv = ["report", "--decisions", str(decisions(tmp_path)), "--out"]
    pages = []
    for name in ("one.html", "two.html"):
        assert main([*argv, str(tmp_path / name)]) == 0
        pages.append((tmp_path / name).read_text("utf-8"))
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--decisions must be a readable file"),
        ("nothing", "must be JSON"),
        ("[]", "must be a JSON object"),
        ('{"sets": {}}', "must be what `nearhit-eval` of this version wrote with --json"),
    ],
)
def test_input_of_another_command_is_refused(
    tmp_path: Path, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "d.json", tmp_path / "report.html"
    if content is not None:
        path.write_text(content)
    assert main(["report", "--decisions", str(path), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_report_never_writes_over_what_it_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = decisions(tmp_path)
    before = path.read_bytes()
    argv = ["report", "--decisions", str(path), "--out", str(tmp_path / "d.html")]
    assert main(argv) == 2
    assert "must be files of their own" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_map_of_an_unknown_set_names_those_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["report", "--decisions", str(decisions(tmp_path)), "--margins", str(margins(tmp_path))]
    assert main([*argv, "--out", str(tmp_path / "r.html"), "--map", "tax"]) == 2
    assert "must be a set or domain of --margins: law & order; got tax" in capsys.readouterr().err


def test_slider_in_a_browser_tells_what_each_threshold_serves(written: Path) -> None:
    chromium = browser.find()
    if chromium is None:
        pytest.skip(f"no browser: none of {', '.join(browser.NAMES)} is installed")
    told = "['at','served','wrong','recall','saved'].map(i => document.getElementById(i).innerText)"
    move = "(s => {{ s.value = {}; s.dispatchEvent(new Event('input')); }})(threshold)"
    with browser.tab(chromium) as tab:
        tab.open(written, width=390)
        shown = f"{told}.join(' | ')"
        assert tab.evaluate(shown) == "0.92000 | 3 | 1 (33.3 %) | 66.7 % | 60.0 %"
        tab.evaluate(move.format(2))
        assert tab.evaluate(shown) == "0.95000 | 2 | 0 (0.0 %) | 66.7 % | 40.0 %"
        tab.evaluate(move.format(0))
        assert tab.evaluate(shown) == "none served | 0 | 0 (-) | 0.0 % | 0.0 %"
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth") is True
        assert tab.evaluate("document.title") == "nearhit report"
        light = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        tab.call("Emulation.setEmulatedMedia", features=dark)
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != light
        assert tab.complaints == []
