"""The steps that need no cloud, run as they stand in the pipelines; programs of the cloud are small stand-ins."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.delivery.answers import answering
from tests.loopback import serving
from tests.structure.sources import CHECKOUT, PEERS, in_git, read
from tools.delivery import audit
from tools.delivery.pipelines import PIPELINES, steps

BUILD, STAGING, PROMOTION, PRODUCTION = PIPELINES
DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64
IMAGE = f"europe-west1-docker.pkg.dev/dev-context-staging/dev-context/dev-context@{DIGEST}"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """/workspace, with stand-ins of programs in `bin`: each notes how it was called, and says what a file says."""
    (tmp_path / "bin").mkdir()
    for name in ("crane", "gcloud", "docker"):
        program = tmp_path / "bin" / name
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/{name}.calls\ncat {tmp_path}/{name}.says 2>/dev/null\ntrue\n'
        )
        program.chmod(0o755)
    return tmp_path


def run(path: str, step: str, workspace: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A step's script, with /workspace elsewhere and busybox played by sh."""
    script = next(each.script for each in steps(path) if each.id == step)
    file = workspace / "script"
    file.write_text(script.replace("/workspace", str(workspace)).replace("#!/busybox/sh", "#!/bin/sh"))
    file.chmod(0o755)
    environment = {"PATH": f"{workspace / 'bin'}:{os.environ['PATH']}", "HOME": str(workspace), **env}
    environment["PYTHONPATH"] = str(CHECKOUT)
    return subprocess.run([str(file)], cwd=workspace, env=environment, capture_output=True, text=True, timeout=120)


def calls(workspace: Path, program: str) -> list[str]:
    return (workspace / f"{program}.calls").read_text().splitlines()


def test_bases_by_today_s_digest_reach_the_build(workspace: Path) -> None:
    (workspace / "Dockerfile").write_text((CHECKOUT / "Dockerfile").read_text())
    (workspace / "crane.says").write_text(DIGEST + "\n")
    assert run(BUILD, "bases", workspace).returncode == 0

    done = run(BUILD, "build", workspace, IMAGE="registry/dev-context:c0ffee", COMMIT="c0ffee")
    assert done.returncode == 0, done.stderr
    call, saved = calls(workspace, "docker")
    assert saved == f"save --output {workspace}/image.tar registry/dev-context:c0ffee", "what Trivy reads"
    assert f"--build-arg BUILDER=debian@{DIGEST} " in call
    assert f"--build-arg RUNTIME=gcr.io/distroless/python3-debian13@{DIGEST} " in call
    assert call.endswith("--build-arg REVISION=c0ffee --build-arg VERSION=c0ffee --tag registry/dev-context:c0ffee .")


def test_a_base_that_cannot_be_found_ends_the_build(workspace: Path) -> None:
    (workspace / "Dockerfile").write_text((CHECKOUT / "Dockerfile").read_text())
    (workspace / "bin" / "crane").write_text("#!/bin/sh\nexit 1\n")
    assert run(BUILD, "bases", workspace).returncode != 0


@pytest.mark.parametrize(
    ("path", "step", "topic"),
    [(BUILD, "announce", "releases"), (PROMOTION, "announce", "releases"), (STAGING, "ask", "candidates")],
    ids=["build", "promotion", "staging"],
)
def test_what_is_announced_is_json(workspace: Path, path: str, step: str, topic: str) -> None:
    (workspace / "image").write_text(IMAGE)
    done = run(path, step, workspace, PROJECT="p", PRODUCTION="p", IMAGE=IMAGE, COMMIT="c0ffee")
    assert done.returncode == 0, done.stderr
    (call,) = calls(workspace, "gcloud")
    found = re.fullmatch(rf"pubsub topics publish {topic} --project=p --message=(.*)", call)
    assert found
    assert json.loads(found[1]) == {"image": IMAGE, "commit": "c0ffee"}


def test_without_a_production_nobody_is_asked(workspace: Path) -> None:
    assert run(STAGING, "ask", workspace, PRODUCTION="", IMAGE=IMAGE, COMMIT="c0ffee").returncode == 0
    assert not (workspace / "gcloud.calls").exists()


SEEN, WEAK = "[seen] [http] [high] https://…/health/ready\n", "[CVE-2026-0000] [http] [critical] https://…\n"


@pytest.mark.parametrize(
    ("found", "status", "code", "said"),
    [
        (SEEN, 200, 0, ""),
        (SEEN + WEAK, 200, 1, WEAK),
        ("", 200, 1, "has not seen"),
        (None, 200, 1, "has not seen"),
        (SEEN, 403, 1, ""),
    ],
    ids=["clean", "weak", "blind", "never-begun", "locked-out-meanwhile"],
)
def test_a_finding_of_nuclei_ends_the_way(
    workspace: Path, found: str | None, status: int, code: int, said: str
) -> None:
    if found is not None:
        (workspace / "nuclei.txt").write_text(found)
    with answering({"GET /health/ready": {}}, status=status) as (url, _):
        done = run(STAGING, "clean", workspace, URL=url)
    assert done.returncode == code, done.stderr
    assert said in done.stdout


@pytest.mark.parametrize(("attestations", "code"), [("", 1), ("projects/s/occurrences/1\n", 0)])
def test_only_what_staging_has_attested_is_promoted(workspace: Path, attestations: str, code: int) -> None:
    (workspace / "gcloud.says").write_text(attestations)
    assert run(PROMOTION, "attested", workspace, IMAGE=IMAGE, STAGING="s").returncode == code
    (call,) = calls(workspace, "gcloud")
    asked = "--attestor=built --attestor-project=s --artifact-url="
    assert call == f"container binauthz attestations list {asked}{IMAGE} --format=value(name)"


@pytest.mark.parametrize("path", [BUILD, PROMOTION])
def test_what_is_attested_is_the_digest_that_was_pushed(workspace: Path, path: str) -> None:
    (workspace / "image").write_text(IMAGE + "\n")
    assert run(path, "attest", workspace, PROJECT="p", REGION="r").returncode == 0
    (call,) = calls(workspace, "gcloud")
    signed = f"attestations sign-and-create --artifact-url={IMAGE} --attestor=built --attestor-project=p "
    key = "--keyversion-project=p --keyversion-location=r --keyversion-keyring=main --keyversion-key=attestor"
    assert call == f"beta container binauthz {signed}{key} --keyversion=1"


def test_what_is_pushed_is_the_image_that_the_gate_has_seen_by_its_digest(workspace: Path) -> None:
    (workspace / "docker.says").write_text(IMAGE + "\n")
    assert run(BUILD, "push", workspace, IMAGE="registry/dev-context:c0ffee").returncode == 0
    inspected = "inspect --format {{index .RepoDigests 0}} registry/dev-context:c0ffee"
    assert calls(workspace, "docker") == ["push --quiet registry/dev-context:c0ffee", inspected]
    assert (workspace / "image").read_text() == IMAGE + "\n"


@pytest.mark.parametrize("step", ["push", "build"])
def test_a_daemon_that_refuses_ends_the_build(workspace: Path, step: str) -> None:
    (workspace / "bases.env").write_text("BUILDER=a\nRUNTIME=b\n")
    (workspace / "bin" / "docker").write_text('#!/bin/sh\ncase "$1" in push|build) exit 1;; esac\n')
    assert run(BUILD, step, workspace, IMAGE="registry/dev-context:c0ffee", COMMIT="c0ffee").returncode != 0


@pytest.mark.parametrize(("digest", "code"), [(DIGEST, 0), (OTHER, 1)])
def test_a_copy_has_the_digest_of_the_original(workspace: Path, digest: str, code: int) -> None:
    (workspace / "bin" / "crane").write_text(
        f'#!/bin/sh\necho "$*" >> {workspace}/crane.calls\nif [ "$1" = digest ]; then echo {digest}; fi\n'
    )
    here = "europe-west1-docker.pkg.dev/dev-context-production/dev-context/dev-context"
    done = run(PROMOTION, "copy", workspace, IMAGE=IMAGE, HERE=f"{here}:c0ffee")
    assert done.returncode == code
    assert calls(workspace, "crane") == [f"copy {IMAGE} {here}:c0ffee", f"digest {here}:c0ffee"]
    assert not code or not (workspace / "image").exists()
    assert code or (workspace / "image").read_text() == f"{here}@{DIGEST}\n"


def test_the_rules_of_zap_lie_where_it_reads_them(workspace: Path) -> None:
    script = next(each.script for each in steps(STAGING) if each.id == "room")
    (workspace / "wrk").mkdir(mode=0o700)
    moved = script.replace("/zap/wrk", str(workspace / "wrk"))
    subprocess.run(["bash", "-c", moved], cwd=CHECKOUT, check=True)
    assert (workspace / "wrk" / "zap.conf").read_text() == (CHECKOUT / "delivery" / "zap.conf").read_text()
    assert (workspace / "wrk").stat().st_mode & 0o777 == 0o777


# make audit


class _Osv(BaseHTTPRequestHandler):
    """OSV's `POST /v1/query`: one package has a weakness, if one is named."""

    weak = ""
    asked: list[str]

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"]
        self.asked.append(name)
        affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": []}]
        found: dict[str, Any] = {"vulns": [{"id": "PYSEC-2026-1", "summary": "Weak.", "affected": affected}]}
        text = json.dumps(found if name == self.weak else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def osv(weak: str) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (_Osv,), {"weak": weak, "asked": asked})
    with serving(handler) as url:
        yield url, asked


@pytest.mark.parametrize(("weak", "code"), [("", 0), ("werkzeug", 1)])
def test_a_published_weakness_of_a_pinned_package_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], weak: str, code: int
) -> None:
    """`make audit` over production's lock."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with osv(weak) as (url, asked):
        assert audit.main(["--osv-url", url, "requirements.txt"]) == code
    assert "werkzeug" in asked
    assert not weak or "PYSEC-2026-1" in capfd.readouterr().out


def test_what_could_not_be_asked_did_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with osv("") as (url, _):
        pass
    assert audit.main(["--osv-url", url, "requirements.txt"]) == 2
    assert capfd.readouterr().err == "OSV cannot be reached from this machine: nothing was audited\n"


def test_every_lock_is_audited() -> None:
    locks = [str(path) for path in in_git() if re.fullmatch(r"requirements.*\.txt", path.name)]
    locks = [lock for lock in locks if not lock.startswith(PEERS)]
    assert sorted(audit.LOCKS) == sorted(locks)
    assert "-m tools.delivery.audit" in read("Makefile")
