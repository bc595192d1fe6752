"""Which page is photographed how: its size, what is done on it first, and what must be there before the shutter."""

import html
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tests.sessions.chromium import Browser, Failed, Page

PATIENCE_SECONDS = 30
WIDE, NARROW = (1280, 800), (390, 780)
OPEN_MAIL = "[...document.querySelectorAll('#list button')].find(each => /Confirm/.test(each.textContent))?.click()"
OPERATION = "#/Projects/post_v1_projects"
OPENED = "document.querySelector('.opblock.is-open .opblock-body')"
NAMELESS = "document.getElementById('root').hidden = true"  # the folder of a throw-away stack is named by chance
TERMINAL = """<!doctype html><html lang="en"><meta charset="utf-8"><title>make run</title><style>
body {{ margin: 0; background: #12161c; color: #dfe5ee; font: 14px/1.7 "DejaVu Sans Mono", ui-monospace, monospace }}
pre {{ margin: 0; padding: 20px 24px; white-space: pre-wrap; overflow-wrap: anywhere }} b {{ color: #7fd7a4 }}
</style><pre><b>$ make run</b>\n{lines}</pre></html>"""


@dataclass(frozen=True)
class Shot:
    """One picture: `ready` and `settled` are JavaScript expressions that must become true before and after `act`."""

    name: str
    url: str
    size: tuple[int, int] = WIDE
    scheme: str = "light"
    ready: str = "true"
    act: str = "0"
    settled: str = "true"
    fits: bool = False  # as high as what it shows


def of(stack: dict[str, Any]) -> Iterator[Shot]:
    """The pictures of a stack."""
    yield Shot(
        "docs",
        f"{stack['api']}/docs{OPERATION}",
        ready=OPENED,
        act=f"scrollBy(0, {OPENED}.closest('.opblock').getBoundingClientRect().top)",
    )
    listed = "document.querySelectorAll('#list button').length > 2"
    yield Shot("inbox", stack["mail"], ready=listed, act=OPEN_MAIL, settled="document.querySelector('#mail h2')")
    parts = ("services [data-name=mail] .told", "jobs .split", "queues .queue", "schedule li", "alerts .series li")
    known = " && ".join(f"document.querySelector('#{part}')" for part in (*parts, "database .facts-list"))
    yield Shot("status", stack["status"], (1440, 1000), ready=known, act=NAMELESS)
    yield Shot("status-dark", stack["status"], (1440, 1000), "dark", ready=known, act=NAMELESS)
    traces = "document.querySelector('#traces')"
    yield Shot(
        "trace",
        stack["status"],
        (1440, 760),
        ready=f"{known} && document.querySelector('.waterfall')",
        act=f"{NAMELESS}, {traces}.scrollIntoView()",
    )
    log = Path(stack["path"]).parent.parent / "supervisor.log"
    if log.exists():
        yield Shot("make-run", terminal(log, Path(stack["path"]).parent), (900, 100), fits=True)


def terminal(log: Path, root: Path) -> str:
    """What `make run` has printed, as a page; the folder of a throw-away stack reads as the usual one."""
    text = log.read_text().replace(str(root), ".local")
    return "data:text/html;charset=utf-8," + quote(TERMINAL.format(lines=html.escape(text)))


def photograph(browser: Browser, page: Page, shot: Shot) -> str:
    """The picture as PNG in Base64. Raises Failed when the page does not come to what the shot needs."""
    width, height = shot.size
    features = [{"name": "prefers-color-scheme", "value": shot.scheme}]
    features.append({"name": "prefers-reduced-motion", "value": "reduce"})
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.call("Emulation.setDeviceMetricsOverride", page._session, **metrics)
    browser.call("Emulation.setScrollbarsHidden", page._session, hidden=True)
    browser.call("Emulation.setEmulatedMedia", page._session, features=features)
    page.go(shot.url)
    until(page, shot, shot.ready)
    page.run(shot.act)
    until(page, shot, shot.settled)
    if shot.fits:
        metrics["height"] = page.run("document.body.scrollHeight")
        browser.call("Emulation.setDeviceMetricsOverride", page._session, **metrics)
    page.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 300)))")  # fonts and layout
    return str(browser.call("Page.captureScreenshot", page._session, format="png", optimizeForSpeed=False)["data"])


def until(page: Page, shot: Shot, expression: str) -> None:
    """Wait for something to become true. Raises Failed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not page.run(f"Boolean({expression})"):
        if time.monotonic() > deadline:
            raise Failed(f"{urlsplit(shot.url).path or shot.name}: {expression} did not come true")
        time.sleep(0.1)
