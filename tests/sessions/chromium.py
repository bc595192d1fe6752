"""Chromium without a window, driven by the DevTools protocol: https://chromedevtools.github.io/devtools-protocol/."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.processes import die_with_parent, signal_group
from tests.sessions.clients import WebSocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ABSENT = (
    "no Chromium here, so no browser has tried the streams: `apt-get install chromium` on Debian, "
    "`.ci/run` does it where it may"
)
START_SECONDS = 60
OPTIONS = (
    *("--headless=new", "--remote-debugging-port=0", "--remote-debugging-address=127.0.0.1", "--no-proxy-server"),
    *("--no-first-run", "--no-default-browser-check", "--disable-gpu", "--disable-dev-shm-usage", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--mute-audio"),
)


class Failed(AssertionError):
    """What a page threw."""


def program() -> str | None:
    """The path of the browser, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def running(path: str, folder: Path) -> Iterator["Browser"]:
    """A browser whose home, profile and scratch files are in `folder`.

    It keeps its sandbox where the system lets it: not for root, and not where user namespaces are forbidden.
    """
    tries = [("--no-sandbox",)] if os.geteuid() == 0 else [(), ("--no-sandbox",)]
    for options in tries:
        home = folder / f"browser{len(options)}"
        home.mkdir()
        process, address = _start(path, home, options)
        if address:
            break
    else:
        raise Failed("Chromium did not start:\n" + (home / "log").read_text()[-3000:])
    try:
        browser = Browser(address)
        yield browser
        browser.close()
    finally:
        _stop(process)


def _start(path: str, home: Path, options: tuple[str, ...]) -> tuple[subprocess.Popen[bytes], str | None]:
    """The process and its DevTools address, None when it ended at once."""
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(home), "TMPDIR": str(home)}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [path, *OPTIONS, *options, f"--user-data-dir={home / 'profile'}", "about:blank"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
    found = home / "profile" / "DevToolsActivePort"  # its port and path, each on a line
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        lines = found.read_text().splitlines() if found.exists() else []
        if len(lines) > 1:
            return process, f"http://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    _stop(process)
    return process, None


def _stop(process: subprocess.Popen[bytes]) -> None:
    signal_group(process.pid, signal.SIGKILL)
    process.wait(10)


class Browser:
    """A connection to a browser."""

    def __init__(self, address: str) -> None:
        self._socket = WebSocket(address)
        self._sent = 0

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """What a method of the protocol answers; events are passed over."""
        self._sent += 1
        about = {"sessionId": session} if session else {}
        self._socket.send({"id": self._sent, "method": method, "params": parameters, **about})
        while (message := self._socket.next(60)).get("id") != self._sent:
            pass
        if "error" in message:
            raise Failed(f"{method}: {message['error']['message']}")
        return message["result"]

    @contextmanager
    def page(self, url: str) -> Iterator["Page"]:
        """A page of a fresh profile: no cookie of another one."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        page.go(url)
        try:
            yield page
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)

    def close(self) -> None:
        """Leave the browser."""
        self._socket.close()


class Page:
    """One page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def go(self, url: str) -> None:
        """Open an address and wait until it has loaded."""
        answer = self._browser.call("Page.navigate", self._session, url=url)
        if "errorText" in answer:
            raise Failed(f"{url}: {answer['errorText']}")
        self.run("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))")

    def run(self, expression: str, **values: Any) -> Any:
        """The value of a JavaScript expression, of a promise once it is settled; `values` are constants in it."""
        known = "".join(f"const {name} = {json.dumps(value)}; " for name, value in values.items())
        answer = self._browser.call(
            "Runtime.evaluate",
            self._session,
            expression=f"(async () => {{ {known}return await ({expression}) }})()",
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise Failed(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def forget(self, cookie: str, url: str) -> None:
        """Delete a cookie, which no script of the page could."""
        self._browser.call("Network.deleteCookies", self._session, name=cookie, url=url)
