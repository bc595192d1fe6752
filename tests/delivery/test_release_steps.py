"""The steps of a release: the commit of its image, the history around it, and that it hears when it is to stop."""

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.delivery.answers import answering
from tests.delivery.test_steps import IMAGE, calls, run, workspace
from tests.structure.sources import read
from tools.delivery import history
from tools.delivery.pipelines import PIPELINES, steps

_, STAGING, PROMOTION, PRODUCTION = PIPELINES
__all__ = ["workspace"]  # the fixture


@pytest.mark.parametrize("path", [STAGING, PROMOTION, PRODUCTION])
@pytest.mark.parametrize(("commit", "code"), [("c" * 40, 0), ("d" * 40, 1)])
def test_an_image_is_of_the_commit_that_came_with_it(workspace: Path, path: str, commit: str, code: int) -> None:
    """As Docker writes the label that the Dockerfile sets."""
    assert 'org.opencontainers.image.revision="${REVISION}"' in read("Dockerfile")
    labels = {"org.opencontainers.image.revision": "c" * 40, "org.opencontainers.image.title": "dev-context"}
    (workspace / "crane.says").write_text(json.dumps({"config": {"Labels": labels}}, separators=(",", ":")))
    done = run(path, "origin", workspace, IMAGE=IMAGE, COMMIT=commit)
    assert done.returncode == code
    assert calls(workspace, "crane") == [f"config {IMAGE}"]


@pytest.mark.parametrize("path", [STAGING, PRODUCTION])
def test_a_release_that_is_asked_to_stop_hears_it(workspace: Path, path: str) -> None:
    """The shell that begins it stands in no way: it would end, or wait, without a word to the release."""
    script = next(each.script for each in steps(path) if each.id == "release")
    (workspace / "script").write_text(script)
    (workspace / ".venv" / "bin").mkdir(parents=True)
    for name, text in {
        "bin/make": "#!/bin/sh\n",
        ".venv/bin/python": "#!/bin/bash\ntrap 'echo back; exit 1' TERM\necho begun\nwhile :; do sleep 0.05; done\n",
    }.items():
        (workspace / name).write_text(text)
        (workspace / name).chmod(0o755)
    environment = {"PATH": f"{workspace / 'bin'}:{os.environ['PATH']}", "PROJECT": "p", "REGION": "r"}
    environment |= {"IMAGE": IMAGE, "URL": "https://api.example.com"}
    command = ["bash", "script"]
    with subprocess.Popen(command, cwd=workspace, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        process.terminate()
        assert process.stdout.readline() == "back\n"
        assert process.wait(timeout=30) != 0


def git(folder: Path, *words: str) -> str:
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com"}
    identity |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com", "HOME": str(folder)}
    environment = {"PATH": os.environ["PATH"], **identity}
    done = subprocess.run(["git", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("path", [STAGING, PRODUCTION])
def test_a_release_takes_the_commit_of_the_image_if_main_has_it(workspace: Path, tmp_path: Path, path: str) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main")
    commits = []
    for number in range(3):
        git(origin, "commit", "-q", "--allow-empty", "-m", str(number))
        commits.append(git(origin, "rev-parse", "HEAD"))
    git(origin, "checkout", "-q", "-b", "elsewhere", commits[0])
    git(origin, "commit", "-q", "--allow-empty", "-m", "of a stranger")
    stranger = git(origin, "rev-parse", "HEAD")
    for commit, code in ((commits[1], 0), (stranger, 1)):
        clone = tmp_path / f"clone-{commit}"
        git(tmp_path, "clone", "-q", "--depth", "1", "--branch", "main", f"file://{origin}", str(clone))
        (clone / "bin").symlink_to(workspace / "bin")
        assert bool(run(path, "commit", clone, COMMIT=commit, SOURCE="").returncode) is bool(code)
        assert git(clone, "rev-parse", "HEAD") == (commits[2] if code else commit)


@pytest.mark.parametrize("shallow", [True, False])
def test_the_history_of_a_private_repository_is_asked_for_with_a_token(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, shallow: bool
) -> None:
    """Git gets it where nobody sees it; a checkout that is whole needs none."""
    program = workspace / "bin" / "git"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = rev-parse ]; then echo {str(shallow).lower()}; exit; fi\n'
        f'printf "%s\\n" "$*" "$GIT_CONFIG_KEY_0" "$GIT_CONFIG_VALUE_0" >> {workspace}/git.calls\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{workspace / 'bin'}:{os.environ['PATH']}")
    repository = "projects/p/locations/r/connections/github/repositories/dev-context"
    answers = {"GET /token": {"access_token": "own"}, f"POST /v2/{repository}:accessReadToken": {"token": "read"}}
    with answering(answers) as (url, asked):
        history.main(repository, f"{url}/token", f"{url}/v2")
        if shallow:
            with pytest.raises(OSError, match="403"), answering(answers, status=403) as (closed, _):
                history.main(repository, f"{closed}/token", f"{url}/v2")
    basic = base64.b64encode(b"x-access-token:read").decode()
    wanted = ["fetch --quiet --unshallow", "http.https://github.com/.extraHeader", f"Authorization: Basic {basic}"]
    if shallow:
        assert calls(workspace, "git") == wanted
        assert [asked[0]["Metadata-Flavor"], asked[1]["Authorization"]] == ["Google", "Bearer own"]
    else:
        assert not (workspace / "git.calls").exists()
        assert asked == []
