"""Rules about the repository as a whole: what it depends on, what never stands in it, what its front page promises."""

import os
import re
import stat

import pytest
import yaml

from tests.structure.sources import CHECKOUT, in_git, read

MOST_DIRECT = 27  # the budget of production dependencies
LOCKS = ("requirements.txt", "requirements-dev.txt")
PLACES = re.compile(
    "|".join(("/wor" + "k/", "/roo" + "t/", "/hom" + r"e/(?!zap\b)[a-z]", "/User" + "s/", r"[A-Z]:\\User" + "s"))
)
INDEXES = re.compile(
    "|".join(("pythonhoste" + "d", "pypi" + r"\.org", "--(extra-)?index" + "-url", "--find" + "-links"))
)
SECRET_FILES = re.compile(r"(\.pem|\.key|\.p12|\.pfx|\.env|\.tfstate|id_rsa|id_ed25519|credentials\.json)$")
TEXTS = [path for path in in_git() if path.suffix not in {".png", ".gz", ".ico", ".woff2"}]


def names(path):
    """Package names of a .in file."""
    lines = (line.split("#")[0].strip() for line in read(path).splitlines())
    return [re.split(r"[\[<>=~!; ]", line)[0].lower() for line in lines if line]


def blocks(path):
    """Package name, version and hashes of each block of lines in a lock file: two for one that depends on Python's."""
    return re.findall(r"^([a-z0-9._-]+)==(\S+)[^\n]*\\\n((?:    --hash=\S+(?: \\)?\n)+)", read(path), re.MULTILINE)


def pins(path):
    """Package name → version and hashes."""
    return {name: (version, hashes) for name, version, hashes in blocks(path)}


def test_few_direct_production_dependencies():
    assert 0 < len(names("requirements.in")) <= MOST_DIRECT


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_hashed(lock):
    packages = [line for line in read(lock).splitlines() if line and not line.startswith((" ", "#"))]
    assert len(packages) == len(blocks(lock)) > 0
    assert all("--hash=sha256:" in hashes for _, _, hashes in blocks(lock))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_direct_dependency_is_pinned(lock):
    assert set(names(lock.replace(".txt", ".in"))) <= set(pins(lock))


def test_both_locks_agree():
    production, development = (pins(lock) for lock in LOCKS)
    assert [name for name in set(production) & set(development) if production[name] != development[name]] == []


def test_the_hooks_run_the_pinned_tools():
    hooks = {
        repo["repo"].rsplit("/", 1)[1]: repo["rev"] for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    }
    development = pins("requirements-dev.txt")
    assert hooks["ruff-pre-commit"] == "v" + development["ruff"][0]
    assert hooks["detect-secrets"] == "v" + development["detect-secrets"][0]


def test_no_secret_files():
    assert [str(path) for path in in_git() if SECRET_FILES.search(path.name)] == []


@pytest.mark.parametrize("path", TEXTS, ids=str)
def test_text(path):
    """No path of somebody's machine, no package index; a last line that ends."""
    text = read(path)
    assert PLACES.search(text) is None
    assert INDEXES.search(text) is None
    assert not text or text.endswith("\n")
    assert "\r\n" not in text


def test_the_check_is_one_command():
    script = CHECKOUT / ".ci" / "run"
    assert stat.S_IMODE(os.stat(script).st_mode) & 0o111
    lines = [line for line in script.read_text().splitlines()[1:] if line and not line.startswith(("#", "set ", "cd "))]
    assert lines == [".ci/browser", "make test"], "a browser cannot come with the pinned packages; the rest does"
    assert stat.S_IMODE(os.stat(CHECKOUT / ".ci" / "browser").st_mode) & 0o111


def test_the_front_page_names_two_commands():
    start = re.search(r"^## Start$(.*?)^## ", read("README.md"), re.MULTILINE | re.DOTALL)
    assert start
    blocks = re.findall(r"^```sh\n(.*?)^```", start[1], re.MULTILINE | re.DOTALL)
    commands = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    assert commands == ["make run", "make test"]


def test_every_target_that_a_page_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    pages = [path for path in in_git() if path.suffix == ".md"]
    word = r"(?:`|^)make ([a-z]+(?:-[a-z]+)*)\b"
    named = {target for path in pages for target in re.findall(word, read(path), re.MULTILINE)}
    assert {"run", "test"} <= named <= targets


@pytest.mark.parametrize("page", [path for path in in_git() if path.suffix == ".md"], ids=str)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)|(?:src|srcset)=\"([^\"]+)\"", read(page))
    local = [first or second for first, second in links if not (first or second).startswith(("http", "mailto:"))]
    assert [link for link in local if not (CHECKOUT / page).parent.joinpath(link).exists()] == []
