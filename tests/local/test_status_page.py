"""The status page in a browser: what a person sees and does, with a keyboard too, at every width, light and dark."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from typing import Any

import pytest

from local.layout import Layout
from local.status import queues as kept
from tests.local.status_stack import (
    TRACE,
    executions,
    queue,
    request,
    schedule,
    services,
    standing,
    trace,
    write_log,
)
from tests.sessions import chromium

pytestmark = pytest.mark.skipif(chromium.program() is None, reason=chromium.ABSENT)
DESKTOP, PHONE, SMALL = (1440, 900), (390, 844), (320, 640)  # 320: WCAG's reflow, a phone or 400 % of a desktop
WATCHING = """
  window.wrong = [];
  addEventListener("error", (event) => wrong.push(String(event.message || event.target.outerHTML)), true);
  addEventListener("unhandledrejection", (event) => wrong.push(String(event.reason)));
  addEventListener("securitypolicyviolation", (event) => wrong.push(`${event.violatedDirective} ${event.blockedURI}`));
  window.EventSource = class extends EventSource { constructor(address) { super(address); window.heard = this; } };
"""
SEEN = "document.querySelector({selector!r})?.textContent ?? ''"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    with chromium.running(str(chromium.program()), tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def shown(shared_layout: Layout, start: Any) -> Iterator[Layout]:
    """A page about a stack of files, with real traces and a real scheduler."""
    rows = [standing(name) for name in ("gateway", "postgres", "projects", "exports-jobs", "sessions-1", "workflows")]
    services(shared_layout, *rows, standing("auth", "delayed", starts=3), standing("migrations", "done", step=True))
    for make in (queue, schedule, executions, trace):
        make(shared_layout)
    write_log(shared_layout, "gateway", *[request("gateway", "/v1/projects", 200, 12, ago) for ago in range(1, 200, 7)])
    write_log(shared_layout, "gateway", request("run:projects", "projects", 503, 12))
    write_log(shared_layout, "projects", '{"severity":"ERROR","message":"<img src=x onerror=document.title=1>"}')
    with ExitStack() as running:
        for name in ("status", "telemetry", "scheduler"):
            running.enter_context(start(f"local.{name}", shared_layout, name))
        yield shared_layout


@contextmanager
def opened(
    browser: chromium.Browser, layout: Layout, size: tuple[int, int] = DESKTOP, scheme: str = "light"
) -> Iterator[chromium.Page]:
    """The page, once it has heard of everything; nothing in it may have thrown, or been refused by its own policy."""
    parts = (".tile", ".waterfall", "#traffic .chart", "#jobs .split", "#queues .queue", "#database .bad", "#logs li")
    with browser.page("about:blank") as page:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        features.append({"name": "prefers-reduced-motion", "value": "reduce"})
        width, height = size
        phone = width < 600
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        browser.call("Emulation.setDeviceMetricsOverride", page._session, **metrics)
        browser.call("Emulation.setEmulatedMedia", page._session, features=features)
        browser.call("Page.enable", page._session)
        browser.call("Page.addScriptToEvaluateOnNewDocument", page._session, source=WATCHING)
        page.go(layout.url("status"))
        eventually(page, "parts.every(part => document.querySelector(part))", parts=parts)
        yield page
        assert page.run("wrong") == []


def eventually(page: chromium.Page, expression: str, **values: Any) -> Any:
    """The first truthy value of an expression."""
    deadline = time.monotonic() + 20
    while not (found := page.run(expression, **values)):
        assert time.monotonic() < deadline, f"this did not come true: {expression}"
        time.sleep(0.05)
    return found


def text(page: chromium.Page, selector: str) -> str:
    return " ".join(str(page.run(SEEN.format(selector=selector))).split())


def press(browser: chromium.Browser, page: chromium.Page, key: str, code: int) -> None:
    for kind in ("rawKeyDown", "keyUp"):
        facts = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        browser.call("Input.dispatchKeyEvent", page._session, type=kind, **facts)
    if key == "Enter":
        browser.call("Input.dispatchKeyEvent", page._session, type="char", text="\r")


def test_it_says_first_what_is_wrong(browser: chromium.Browser, shown: Layout) -> None:
    with opened(browser, shown) as page:
        assert text(page, "#verdict") == "auth starts again soon"
        assert page.run("document.title") == "✗ auth starts again soon"
        assert "The database does not answer" in text(page, "#reasons")
        assert page.run("document.querySelector('#sections .dot.bad').parentElement.hash") == "#services"
        assert "2 restarts" in text(page, ".tile[data-name=auth]")
        assert page.run("document.querySelectorAll('#ways path').length") > 2


def test_every_section_tells_its_part(browser: chromium.Browser, shown: Layout) -> None:
    with opened(browser, shown) as page:
        assert "GET /v1/projects" in text(page, "#traffic")
        assert page.run("document.querySelectorAll('#traffic rect.good').length") > 5
        assert "gdpr_export" in text(page, "#jobs")
        assert "1 attempt, last 503" in text(page, "#queues .failing")
        assert "outbox-drain" in text(page, "#schedule")
        assert "every minute" in text(page, "#schedule")
        assert "no answer" in text(page, "#schedule")
        assert "It does not answer" in text(page, "#database")
        assert "Nothing watches this stack" in text(page, "#alerts")


def test_a_trace_is_a_waterfall(browser: chromium.Browser, shown: Layout) -> None:
    with opened(browser, shown) as page:
        assert TRACE in text(page, ".waterfall .summary")
        lanes = page.run("[...document.querySelectorAll('.lane i')].map(lane => lane.getBoundingClientRect().toJSON())")
        assert [round(lane["width"] / lanes[0]["width"], 2) for lane in lanes] == [1.0, 0.81, 0.62]
        assert lanes[0]["left"] < lanes[1]["left"] < lanes[2]["left"]

        page.run("document.querySelectorAll('.waterfall li > button')[1].click()")

        assert "http.route" in text(page, ".waterfall dl")
        assert page.run("document.querySelectorAll('.waterfall li.bad').length") == 1


def test_a_service_is_opened_and_closed_with_the_keyboard(browser: chromium.Browser, shown: Layout) -> None:
    with opened(browser, shown) as page:
        page.run("document.querySelector('.tile[data-name=projects]').focus()")
        press(browser, page, "Enter", 13)
        eventually(page, "document.querySelector('#drawer[open] .log')?.textContent.includes('onerror')")
        assert "5xx 1 in a quarter of an hour" in text(page, "#drawer").replace("5xx1", "5xx 1")

        press(browser, page, "Escape", 27)

        eventually(page, "!document.querySelector('#drawer').open")
        assert page.run("document.activeElement.dataset.name") == "projects"


def test_what_a_service_writes_is_shown_and_never_run(browser: chromium.Browser, shown: Layout) -> None:
    with opened(browser, shown) as page:
        assert "<img src=x onerror=" in text(page, "#logs")
        assert page.run("document.querySelectorAll('#logs img').length") == 0


def test_a_job_is_run_by_a_button(browser: chromium.Browser, shown: Layout) -> None:
    with opened(browser, shown) as page:
        page.run("document.querySelector('[data-act=run][data-name=keys]').click()")

        eventually(page, "document.getElementById('said').textContent === 'keys was started.'")
        eventually(page, "document.querySelector('#schedule [data-key=keys]').textContent.includes('no answer')")
    assert {job["name"] for job in kept.schedule(shown) if job["last"]} >= {"keys"}


def test_it_goes_on_by_itself_and_keeps_the_focus(browser: chromium.Browser, shown: Layout) -> None:
    with opened(browser, shown) as page:
        page.run("window.tile = document.querySelector('.tile[data-name=projects]'), tile.focus()")
        write_log(shown, "gateway", *[request("gateway", "/v1/invoices", 200, 5)] * 99)

        eventually(page, "document.querySelector('#traffic').textContent.includes('/v1/invoices')")

        assert page.run("tile.isConnected && document.activeElement === tile")


def test_a_job_that_cannot_be_run_is_told_to_the_eye_too(browser: chromium.Browser, shown: Layout) -> None:
    with opened(browser, shown) as page:
        page.run("window.fetch = async () => new Response('', {status: 502})")
        page.run("document.querySelector('[data-act=run][data-name=anchors]').click()")

        eventually(
            page, "document.querySelector('#schedule [data-name=anchors]').textContent.startsWith('Not started')"
        )
        assert text(page, "#said") == "anchors could not be started."


def test_who_hears_nothing_says_so_in_the_tab_too_and_tries_again(browser: chromium.Browser, shown: Layout) -> None:
    """After a refusal a browser gives up by itself: the page must not go on showing what was."""
    with opened(browser, shown) as page:
        said = page.run("document.title")
        page.run("window.before = heard, heard.close(), heard.dispatchEvent(new Event('error'))")

        assert page.run("document.title") == "✗ hears nothing"
        assert "hears nothing" in text(page, "#verdict")
        eventually(page, "heard !== before && document.title === said", said=said)
        assert page.run("document.body.classList.contains('live')")


@pytest.mark.parametrize(
    "size", [DESKTOP, (1000, 800), PHONE, SMALL], ids=["desktop", "tablet", "phone", "small-phone"]
)
def test_nothing_is_wider_than_the_window(browser: chromium.Browser, shown: Layout, size: tuple[int, int]) -> None:
    with opened(browser, shown, size) as page:
        assert page.run("document.documentElement.scrollWidth") <= size[0]


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "dark"), (PHONE, "light")], ids=["desktop", "phone"])
def test_it_is_accessible(browser: chromium.Browser, shown: Layout, size: tuple[int, int], scheme: str) -> None:
    """By axe-core, WCAG 2.1 AA and its best practices, with the drawer closed and open."""
    axe = files("axe_core_python").joinpath("axe.min.js").read_text()
    with opened(browser, shown, size, scheme) as page:
        for act in ("0", "document.querySelector('.tile').click()"):
            page.run(act)
            browser.call("Runtime.evaluate", page._session, expression=axe)
            found = page.run("axe.run(document, {resultTypes: ['violations']}).then(result => result.violations)")
            assert [(each["id"], [node["html"][:120] for node in each["nodes"][:3]]) for each in found] == []


def test_words_and_shapes(browser: chromium.Browser, shown: Layout) -> None:
    """The page's own functions, where a picture would not show a mistake."""
    with opened(browser, shown) as page:
        said = page.run(
            "Promise.all(['queues', 'jobs', 'traces', 'dom', 'charts'].map(name => import(`/page/${name}.js`)))"
            ".then(([queues, jobs, traces, dom, charts]) => ({"
            "cron: ['*/5 * * * *', '7 * * * *', '30 2 * * *', '0 4 * * 1', '0 0 1 1 *'].map(queues.spoken),"
            "steps: jobs.steps({kind: 'export', status: 'running', progress_done: 3, progress_total: 9})"
            ".map(step => step.status),"
            "kept: traces.worthwhile(Array.from({length: 99}, (_, at) => ({depth: at % 3, milliseconds: at === 50 ? 9 :"
            " 0.01, failed: false})), 100).length,"
            "time: [0.004, 9.94, 61, 7000, 200000].map(dom.duration), size: [0, 900, 2048, 5e6].map(dom.bytes),"
            "axis: [3, 11, 260].map(charts.nice)}))"
        )

    assert said["cron"] == [
        "every 5 minutes",
        "hourly at :07",
        "daily at 02:30 UTC",
        "Mondays at 04:00 UTC",
        "0 0 1 1 *",
    ]
    assert said["steps"] == ["done", "running", "pending", "pending", "pending"]
    assert said["kept"] == 35, "the roots, one that took long, and the one between"
    assert said["time"] == ["4 ms", "9.9 s", "61 s", "2 h", "2 days"]
    assert said["size"] == ["0 B", "900 B", "2.0 KB", "4.8 MB"]
    assert said["axis"] == [4, 20, 400]
