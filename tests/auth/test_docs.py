"""GET /docs: the document in a viewer that comes with the image, under a policy that lets nothing else in."""

import gzip
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Links(HTMLParser):
    """Every address that an element of a page loads by itself."""

    def __init__(self):
        super().__init__()
        self.loaded = []

    def handle_starttag(self, tag, attrs):
        names = {"link": ("href",), "a": ()}.get(tag, ("src", "srcset", "href", "data", "action"))
        self.loaded += [value for name, value in attrs if name in names]


def test_it_is_one_page_that_loads_nothing(api):
    answer = api.get("/docs")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    links = Links()
    links.feed(answer.text)
    assert links.loaded == ["data:,"]
    assert "@import" not in answer.text
    assert re.findall(r"url\((?![\"']?data:)", answer.text.split("</style>")[0]) == []
    assert "validatorUrl: null" in answer.text


def test_its_policy_names_its_own_scripts_only(api):
    policy = dict(part.split(" ", 1) for part in api.get("/docs").headers["Content-Security-Policy"].split("; "))

    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for kind in ("script-src", "style-src"):
        assert all(re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", source) for source in policy[kind].split())
    assert "unsafe" not in str(policy)
    assert "http" not in str(policy)


@pytest.mark.parametrize("path", ["/docs", "/v1/openapi.json"])
def test_it_is_compressed_and_remembered(api, path):
    plain = api.get(path, headers={"Accept-Encoding": "identity"})
    packed = api.get(path, headers={"Accept-Encoding": "gzip"}, stream=True)

    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.response.raw.read(decode_content=False)) == plain.response.content
    assert api.get(path, headers={"If-None-Match": plain.headers["ETag"]}).status_code == 304


def test_the_document_leads_to_the_pages_of_its_errors(api):
    document = api.get("/v1/openapi.json").json
    described = json.dumps([answer["description"] for answer in document["components"]["responses"].values()])
    pages = set(re.findall(r"\((/docs/errors/[a-z_]+)\)", described))
    assert "/docs/errors/rate_limited" in pages
    assert [page for page in pages if api.get(page).status_code != 200] == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_it(api, stack, tmp_path):
    """Under the policy of the page: what it refuses would be told on the console. Of a long list Swagger UI makes only
    what the window shows, so the window is a tall one.
    """
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    options += [
        "--window-size=1400,30000",
        "--enable-logging=stderr",
        "--virtual-time-budget=20000",
        f"--user-data-dir={tmp_path}",
    ]
    shown = subprocess.run(
        [CHROMIUM, *options, f"{stack['api']}/docs"], capture_output=True, text=True, timeout=120, check=True
    )
    summaries = {
        operation["summary"]
        for item in api.get("/v1/openapi.json").json["paths"].values()
        for operation in item.values()
    }
    seen = re.findall(r'class="opblock-summary-description">([^<]+)<', shown.stdout)
    assert {summary.replace("&", "&amp;") for summary in summaries} == set(seen)
    told = [line for line in shown.stderr.splitlines() if "CONSOLE" in line and "deep link" not in line]
    assert told == []
