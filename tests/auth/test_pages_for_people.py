"""Every page that a person sees, in a browser: accessible by axe-core, whole, and quiet in the console."""

import json
import time
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from typing import Any

import pytest

from tests.conftest import CHECKOUT, Person, wait_until
from tests.sessions import chromium

pytestmark = pytest.mark.skipif(chromium.program() is None, reason=chromium.ABSENT)
HTML = "text/html; charset=utf-8"
DOCS = "/docs#/Projects/post_v1_projects"
SHOWN = {  # path of the API's document → what is opened, and what must be there
    "/docs": (DOCS, "document.querySelector('.opblock.is-open .opblock-body') && document.querySelector('#servers')"),
    "/docs/errors/{code}": ("/docs/errors/rate_limited", "true"),
    "/verify-email": ("/verify-email#token=none", "document.body.innerText.includes('does not work any more')"),
    "/reset-password": ("/reset-password#token=none", "!document.getElementById('ask').hidden"),
    "/accept-invitation": ("/accept-invitation#token=none", "document.body.innerText.includes('does not work')"),
    "/export": ("/export#id=1", "true"),
    "/deletion": ("/deletion#id=none&receipt=none", "!document.body.innerText.includes('One moment')"),
}
BY_TEST = {"/v1/consents/unsubscribe"}  # needs a link of its own: tests/consents
FOREIGN = ["heading-order", "region"]  # of Swagger UI: its groups begin with an h3, its head has no landmark; not WCAG
SIZES = {"light": (1280, 900), "dark": (390, 844)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    with chromium.running(str(chromium.program()), tmp_path_factory.mktemp("chromium")) as running:
        yield running


def look(browser: chromium.Browser, page: chromium.Page, scheme: str, url: str, there: str) -> None:
    """Open a page as a desktop by day or a phone by night has it, and wait until it shows what it should."""
    width, height = SIZES[scheme]
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.call("Emulation.setDeviceMetricsOverride", page._session, **metrics)
    browser.call("Emulation.setEmulatedMedia", page._session, features=features)
    page.go(url)
    deadline = time.monotonic() + 30
    while not page.run(f"Boolean({there})"):
        assert time.monotonic() < deadline, page.run("document.body.innerText.slice(0, 300)")
        time.sleep(0.05)


def violations(browser: chromium.Browser, page: chromium.Page, *passed_over: str) -> list[Any]:
    """What axe-core finds: WCAG 2.1 AA and its best practices."""
    axe = files("axe_core_python").joinpath("axe.min.js").read_text()
    browser.call("Runtime.evaluate", page._session, expression=axe)
    found = page.run("axe.run(document, {resultTypes: ['violations']}).then(result => result.violations)")
    return [
        (each["id"], [node["html"][:120] for node in each["nodes"][:3]])
        for each in found
        if each["id"] not in passed_over
    ]


@pytest.mark.parametrize("scheme", SIZES)
@pytest.mark.parametrize("path", SHOWN)
def test_a_page_is_accessible(browser: chromium.Browser, stack: dict[str, Any], path: str, scheme: str) -> None:
    url, there = SHOWN[path]
    with browser.page("about:blank") as page:
        look(browser, page, scheme, stack["api"] + url, there)
        assert violations(browser, page, *(FOREIGN if path == "/docs" else ())) == []
        assert path == "/docs" or page.run("document.documentElement.scrollWidth <= innerWidth")


def test_no_page_is_forgotten() -> None:
    document = json.loads((CHECKOUT / "functions" / "auth" / "openapi.json").read_text())
    told = {
        path
        for path, operations in document["paths"].items()
        if HTML in operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
    }
    assert told - BY_TEST <= set(SHOWN)


@pytest.mark.parametrize("scheme", SIZES)
def test_the_inbox_is_accessible(browser: chromium.Browser, stack: dict[str, Any], alice: Person, scheme: str) -> None:
    """With a mail open (Alice's registration sent one), and then its HTML part."""
    with browser.page("about:blank") as page:
        look(browser, page, scheme, stack["mail"], "document.querySelector('#list button')")
        page.run("document.querySelector('#list button').click()")
        for there in ("#mail pre", "#mail iframe"):
            wait_until(partial(page.run, "document.querySelector(there) !== null", there=there), what=there)
            assert violations(browser, page) == []
            page.run("document.querySelector('.tools button[aria-pressed=false]')?.click()")


def test_the_api_is_tried_out_from_its_own_page(browser: chromium.Browser, stack: dict[str, Any]) -> None:
    """By the buttons of /docs, as a person would: authorize, try it out, execute."""
    status = "document.querySelector('.live-responses-table tbody .response-col_status')?.textContent"
    with browser.page("about:blank") as page:
        look(
            browser,
            page,
            "light",
            stack["api"] + "/docs#/System/get_health",
            "document.querySelector('.try-out button')",
        )
        for button in (".try-out button", ".btn.execute"):
            page.run(f"document.querySelector('{button}').click()")
            wait_until(lambda: page.run("document.querySelector('.btn.execute') !== null"), what="the next button")
        wait_until(lambda: page.run(status) == "200", what="the answer")
        assert page.run("performance.getEntriesByType('resource').every(each => each.name.startsWith(location.origin))")
        assert violations(browser, page, *FOREIGN) == []
