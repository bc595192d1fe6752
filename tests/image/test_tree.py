"""What is in the image's tree: the locked packages and our product, nothing for development, no secret, no surprise."""

import base64
import csv
import hashlib
import re
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import yaml

from tests.conftest import CHECKOUT
from tests.structure.sources import in_git, python_of
from tests.structure.test_house import SECRET_FILES, pins
from tools.image.dockerfile import Ignored, context, read
from tools.image.tree import Image

DOCKERFILE = read((CHECKOUT / "Dockerfile").read_text())
BUILDER, FINAL = DOCKERFILE.stages
PRODUCT = ("common", "functions", "migrations", "sessions")


def installed(made: Image) -> dict[str, str]:
    """Distribution → version in lib."""
    found = [PathDistribution(path) for path in (made.app / "lib").glob("*.dist-info")]
    return {each.metadata["Name"].lower().replace("_", "-").replace(".", "-"): each.version for each in found}


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_packages_are_those_of_the_lock_file(made: Image) -> None:
    versions = {(name, version) for name, version, _ in blocks()}
    assert installed(made).items() <= versions
    needed = {name for name, _ in versions} - {"async-timeout", "tzdata"}  # these depend on Python and the system
    assert needed <= set(installed(made))


def blocks() -> list[tuple[str, str, str]]:
    text = (CHECKOUT / "requirements.txt").read_text()
    return re.findall(r"^([a-z0-9._-]+)==(\S+)([^\n]*)", text, re.MULTILINE)


def test_nothing_for_development_is_in_it(made: Image) -> None:
    development = set(pins("requirements-dev.txt")) - set(pins("requirements.txt"))
    assert {"pytest", "mypy", "uv"} <= development
    assert not development & set(installed(made))
    for name in ("pip", "setuptools", "pytest", "_pytest", "mypy", "wheel", "bin"):
        assert not (made.app / "lib" / name).exists(), name
    tops = {path.name for path in made.app.iterdir()}
    assert tops == {"lib", *PRODUCT}


def test_our_files_are_those_of_git_and_all_of_them(made: Image) -> None:
    ours = {
        path.relative_to(made.app)
        for top in PRODUCT
        for path in (made.app / top).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    tracked = {path for path in in_git() if path.parts[0] in PRODUCT and path.parts[:2] != ("sessions", "k8s")}
    listed = ["git", "ls-files", "-z", "--others", "--exclude-standard", *PRODUCT]
    fresh = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.split("\0")
    assert ours == tracked | {Path(name) for name in fresh if name}
    assert not [path for path in ours if SECRET_FILES.search(path.name)]
    assert all((made.app / path).read_bytes() == (CHECKOUT / path).read_bytes() for path in ours)


def test_packages_are_to_the_byte_what_their_wheels_say(made: Image) -> None:
    """Nothing is lost, changed, or beside them; but programs are out, and a page of manual lies where pip puts it."""
    lib = made.app / "lib"
    rows = [row for record in lib.glob("*.dist-info/RECORD") for row in csv.reader(record.read_text().splitlines())]
    wanted = {name: digest for name, digest, _ in rows if not name.startswith("../../") and not name.endswith(".pyc")}
    here = {path.relative_to(lib).as_posix(): path for path in files(lib) if path.suffix != ".pyc"}

    assert {*here} - {"share/man/man1/segno.1"} == {*wanted}
    for name, digest in wanted.items():
        if digest:
            found = hashlib.sha256(here[name].read_bytes()).digest()
            assert digest == "sha256=" + base64.urlsafe_b64encode(found).decode().rstrip("="), name


def test_nobody_but_root_may_write_to_it(made: Image) -> None:
    """Cloud Run's file system can be written to where its modes allow it, and the user is not root."""
    assert not [path for path in made.app.rglob("*") if path.lstat().st_mode & 0o022]
    assert not [path for path in made.app.rglob("*") if path.is_symlink()]


def test_every_source_has_its_byte_code_which_is_never_checked(made: Image) -> None:
    sources = [path for path in files(made.app) if path.suffix == ".py"]
    assert len(sources) >= len(python_of(*PRODUCT))
    tag = "cpython-" + made.base.python.replace(".", "")
    wanted = {source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc" for source in sources}

    assert {path for path in files(made.app) if path.suffix == ".pyc"} == wanted
    for compiled in wanted:
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", f"{compiled}: PEP 552, hash-based and unchecked"


def test_the_same_sources_give_the_same_byte_code(made: Image, tmp_path: Path) -> None:
    """The Dockerfile's own line again, elsewhere: two builds of a commit do not differ."""
    (line,) = (rest for rest in BUILDER.of("RUN") if "compileall" in rest and "common" in rest)
    for path in (path for path in context(CHECKOUT) if path.suffix == ".py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((CHECKOUT / path).read_bytes())
    environment = {"PYTHONHOME": str(made.base.root / "usr"), "PYTHONHASHSEED": "0"}
    words = line.split()[line.split().index("-m") :]
    subprocess.run([*made.base.command(), *words], cwd=tmp_path, env=environment, check=True)

    again = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.pyc")}
    assert again
    assert all((made.app / path).read_bytes() == code for path, code in again.items())


def test_times_of_files_are_those_of_no_machine(made: Image) -> None:
    assert {int(path.lstat().st_mtime) for path in made.app.rglob("*")} == {0}


def test_the_allow_list_lets_in_what_is_copied_and_nothing_else() -> None:
    copied = {rest.split()[0] for rest in BUILDER.of("COPY")}
    assert {path.parts[0] for path in context(CHECKOUT)} == copied == {"requirements.txt", *PRODUCT}
    ignored = Ignored((CHECKOUT / ".dockerignore").read_text())
    for name in (".git/config", ".env", "terraform/main.tf", "tests/x.py", "local/x.py", "build/x", "secrets.json"):
        assert ignored(Path(name)), name
    for name in (
        "functions/auth/.env",
        "common/.secret/x",
        "sessions/k8s/base/x.yaml",
        "common/__pycache__/x.pyc",
        "functions/auth/__pycache__/x",
    ):
        assert ignored(Path(name)), name
    assert not ignored(Path("functions/auth/openapi.json"))


def test_the_rules_of_the_ignore_file() -> None:
    """What the test above rests on."""
    ignored = Ignored("# all\n*\n!a\n!b/c\na/d\n**/*.pyc\n")
    paths = ("a/x", "a/d/x", "a/x.pyc", "b/x", "b/c/x", "ax", "a/d2")
    assert [ignored(Path(path)) for path in paths] == [False, True, True, True, False, True, False]


def test_the_last_stage_only_copies() -> None:
    assert {step.word for step in FINAL.steps} <= {
        *("ARG", "LABEL", "WORKDIR", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD")
    }
    assert FINAL.of("COPY") == ["--from=builder /app /app"]
    assert FINAL.of("USER") == ["65534:65534"]
    assert all(rest.startswith("[") for word in ("ENTRYPOINT", "CMD") for rest in FINAL.of(word)), "no shell"
    assert "org.opencontainers.image.revision=" in FINAL.of("LABEL")[0]


def test_both_stages_are_of_one_debian_and_can_be_pinned() -> None:
    """The lock file has lines that depend on Python; a release gives both by digest."""
    text = (CHECKOUT / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BUILDER}", "${RUNTIME}"]
    assert set(DOCKERFILE.arguments) == {"BUILDER", "RUNTIME"}
    assert (BUILDER.base, FINAL.base) == ("debian:trixie-slim", "gcr.io/distroless/python3-debian13:nonroot")
    assert not [rest for stage in DOCKERFILE.stages for rest in stage.of("COPY") if ".env" in rest]


def test_the_cluster_runs_the_user_of_the_image() -> None:
    deployment = yaml.safe_load((CHECKOUT / "sessions/k8s/base/deployment.yaml").read_text())
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == FINAL.of("USER")[0]


def test_packages_come_by_hash_and_as_wheels_only() -> None:
    (line,) = (rest for rest in BUILDER.of("RUN") if "pip install" in rest)
    assert {"--require-hashes", "--only-binary", "--no-compile", "--no-cache-dir"} <= set(line.split())


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", "Dockerfile"], cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
