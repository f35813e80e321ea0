"""The page at /nearhit/, in a real browser, on a real proxy."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import browser
from gateway import MODEL, Gateway, Upstream, config_of, running

ENABLE = "How do I enable two-factor authentication on my GitHub account?"
SAME = "How can I enable two-factor authentication on my GitHub account?"
DISABLE = "How do I disable two-factor authentication on my GitHub account?"
MARKUP = (
    "<img src=x onerror=\"document.title='broken'\"></p><script>document.title='broken'</script>"
)
TALKED = f"How do I write {MARKUP} in my page?"
TALKED_TOO = f"How can I write {MARKUP} in my page?"
OPENED = "!document.getElementById('main').hidden && figures.children.length > 0"
WIDTHS = (400, 1280)


@pytest.fixture(scope="module")
def shown(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: str, real_artefacts: Path
) -> Iterator[Gateway]:
    """A proxy that decides by cosine, so that near misses are near and markup has a wording."""
    settings = {
        "similarity_threshold": 0.6,
        "deadline_ms": 5000,
        "valves": {"questions_per_entry": 3},
    }
    config = config_of(upstream_server, nearhit=settings)
    with running(tmp_path_factory.mktemp("page"), config, real_artefacts) as gateway:
        yield gateway


@pytest.fixture
def proxy(shown: Gateway, upstream: Upstream, request: pytest.FixtureRequest) -> Gateway:
    shown.system = f"You serve {request.node.name}."
    return shown


@pytest.fixture
def tab() -> Iterator[browser.Tab]:
    chromium = browser.find()
    if chromium is None:
        pytest.skip(f"no browser: none of {', '.join(browser.NAMES)} is installed")
    with browser.tab(chromium) as opened:
        yield opened


def sign_in(tab: browser.Tab, proxy: Gateway, width: int = 1280, key: str = "sk-admin") -> None:
    tab.open(f"{proxy.url}/nearhit/", width)
    tab.evaluate(f"key.value = {key!r}; key.form.requestSubmit()")


def written(proxy: Gateway, question: str, kind: str) -> None:
    """Wait until a decision about a question can be shown."""
    headers = {"authorization": "Bearer sk-admin"}
    end = time.monotonic() + 15
    while True:
        told = proxy.client.get("/nearhit/decisions", params={"kind": kind}, headers=headers).json()
        if any(one["question"] == question for one in told["decisions"]):
            return
        assert time.monotonic() < end, told
        time.sleep(0.1)


def click(label: str, within: str) -> str:
    return f"[...{within}.querySelectorAll('button')].find(b => b.textContent == {label!r}).click()"


def test_page_is_fetched_without_a_key_and_may_load_nothing_else(proxy: Gateway) -> None:
    for path in ("", "page.css", "page.js"):
        got = httpx.get(f"{proxy.url}/nearhit/{path}", trust_env=False)
        assert got.status_code == 200
        policy = dict(
            part.strip().partition(" ")[::2]
            for part in got.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in got.headers["content-security-policy"]
        assert not re.search(r"https?://", got.text)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", got.text)
    page = httpx.get(f"{proxy.url}/nearhit/", trust_env=False).text
    assert not re.search(r"<[^>]* (on\w+|style)=", page)
    assert httpx.get(f"{proxy.url}/nearhit", trust_env=False).status_code in (307, 404)


def test_page_lets_proxy_admins_in_alone_and_keeps_the_key_in_its_tab(
    proxy: Gateway, tab: browser.Tab
) -> None:
    proxy.learn(ENABLE)
    for key in ("sk-alice", "sk-unknown"):
        sign_in(tab, proxy, key=key)
        tab.wait_for("notice.textContent.includes('no proxy admin')")
        assert tab.evaluate("document.getElementById('main').hidden") is True
        assert tab.evaluate("sessionStorage.length") == 0
    tab.complaints.clear()  # the browser's own, of those refusals
    sign_in(tab, proxy)
    tab.wait_for(OPENED)
    assert tab.evaluate("document.cookie + localStorage.length") == "0"
    assert "sk-admin" not in tab.evaluate("document.documentElement.outerHTML + location.href")
    tab.call("Page.reload")
    tab.wait_for(f"document.readyState == 'complete' && {OPENED}")
    tab.evaluate("leave.click()")
    assert tab.evaluate("sessionStorage.length") == 0
    assert tab.evaluate("document.getElementById('main').hidden") is True
    assert tab.complaints == []


@pytest.mark.parametrize("width", WIDTHS)
def test_stored_markup_stays_text_everywhere(
    proxy: Gateway, upstream: Upstream, tab: browser.Tab, width: int
) -> None:
    proxy.system = f"You serve markup, {width}."
    upstream.script(message={"role": "assistant", "content": MARKUP})
    proxy.learn(TALKED)
    assert proxy.ask(TALKED_TOO).kind == "semantic"
    proxy.client.post(
        "/nearhit/warm",
        json={
            "tenant": ["key", "k"],
            "model": MARKUP[:200],
            "pairs": [{"question": TALKED, "answer": MARKUP}],
        },
        headers={"authorization": "Bearer sk-admin"},
    ).raise_for_status()
    written(proxy, TALKED_TOO, "hits")
    sign_in(tab, proxy, width)
    tab.wait_for(f"decisions.textContent.includes({TALKED_TOO!r})")
    tab.evaluate("sought.value = 'in my PAGE?'; search.requestSubmit()")
    tab.wait_for(f"found.firstChild?.textContent.includes({TALKED!r})")
    tab.wait_for("!found.textContent.includes('warm')")
    tab.evaluate(f"{click('Show', 'found')}; document.getElementById('load-report').click()")
    tab.wait_for("found.querySelector('.answer').textContent.includes('<script>')")
    tab.evaluate(
        f"question.value = {TALKED_TOO!r}; model.value = {MODEL!r};"
        f"system.value = {proxy.system!r}; tenant.value = 'key hash-of-sk-alice';"
        "explain.requestSubmit()"
    )
    tab.wait_for("explained.textContent.includes('hit: semantic') && rows.querySelector('table')")
    assert MARKUP in tab.evaluate("explained.textContent")
    assert tab.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert tab.evaluate("document.title") == "nearhit"
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth") is True
    assert tab.complaints == []


def test_wrong_said_on_the_page_keeps_the_answer_from_that_question(
    proxy: Gateway, tab: browser.Tab
) -> None:
    proxy.learn(ENABLE)
    assert proxy.ask(SAME).kind == "semantic"
    written(proxy, SAME, "hits")
    sign_in(tab, proxy)
    tab.wait_for(f"decisions.querySelector('article')?.textContent.includes({SAME!r})")
    tab.evaluate(click("Wrong", "decisions.querySelector('article')"))
    tab.wait_for("decisions.querySelector('article').textContent.includes('said to be wrong')")
    assert proxy.ask(SAME).reason == "quarantine"
    assert proxy.ask(DISABLE).reason == "guard_polarity"
    written(proxy, DISABLE, "near")
    tab.evaluate("document.getElementById('show-near').click()")
    tab.wait_for(f"decisions.textContent.includes({DISABLE!r})")
    assert "forbidden by polarity" in tab.evaluate("decisions.textContent")
    assert "Disable next to" in tab.evaluate("decisions.textContent")


def test_entry_is_found_and_deleted_by_keyboard(proxy: Gateway, tab: browser.Tab) -> None:
    question = "How do I whittle a wooden spoon?"
    proxy.learn(question)
    sign_in(tab, proxy)
    tab.wait_for(OPENED)
    tab.evaluate("sought.focus()")
    tab.call("Input.insertText", text="WHITTLE")
    tab.press("Enter", code=13, text="\r")
    tab.wait_for("found.querySelectorAll('.facts').length == 1")
    tab.evaluate("sought.focus()")
    for _ in range(4):  # by, search, show, delete
        tab.press("Tab", code=9)
    assert tab.evaluate("document.activeElement.textContent") == "Delete"
    tab.press("Enter", code=13, text="\r")
    assert tab.evaluate("document.activeElement.textContent") == "Sure?"
    assert proxy.ask(question).outcome == "hit"
    tab.press("Enter", code=13, text="\r")
    tab.wait_for("found.querySelectorAll('.facts').length == 0")
    assert proxy.ask(question).outcome == "miss"


def test_figures_follow_what_the_proxy_does(proxy: Gateway, tab: browser.Tab) -> None:
    sign_in(tab, proxy)
    tab.wait_for(OPENED)
    before = tab.evaluate("legend.textContent")
    for n in range(3):
        proxy.ask(f"How do I draw {n} owls?")
    tab.wait_for(f"legend.textContent != {json.dumps(before)}")
    assert "hit ratio" in tab.evaluate("figures.textContent")
    assert "saved" in tab.evaluate("figures.textContent")


def test_dark_mode_changes_the_ground_and_headings_are_in_order(
    proxy: Gateway, tab: browser.Tab
) -> None:
    sign_in(tab, proxy)
    tab.wait_for(OPENED)
    ground = "getComputedStyle(document.body).backgroundColor"
    tab.use(is_dark=False)
    light = tab.evaluate(ground)
    tab.use(is_dark=True)
    assert tab.evaluate(ground) != light
    unnamed = (
        "[...document.querySelectorAll('input, select, textarea')]"
        ".filter(field => !field.labels.length).length"
    )
    assert tab.evaluate(unnamed) == 0


def test_page_shows_a_valve_that_is_shut_and_opens_it(tab: browser.Tab, proxy: Gateway) -> None:
    proxy.learn(ENABLE, key="sk-dave")
    words = ("How can I", "How could I", "How do you", "How should I")
    asked = [proxy.ask(ENABLE.replace("How do I", word), key="sk-dave") for word in words]
    assert [one.outcome for one in asked] == ["hit", "hit", "hit", "miss"]
    sign_in(tab, proxy)
    tab.wait_for("!valves.hidden && valves.textContent.includes('shut')")
    told = tab.evaluate("valves.textContent")
    assert "questions_per_entry: one entry answered 4 different questions" in told
    assert asked[0].headers["x-nearhit-entry"][:12] in told
    tab.evaluate(click("Open", "valves"))
    tab.wait_for("valves.hidden")
    got = proxy.client.get("/nearhit/valves", headers={"authorization": "Bearer sk-admin"})
    assert got.json()["shut"] == []
