"""What the pipelines promise: images that cannot be moved, commands that exist, and the order in which they come."""

import ast
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.structure.sources import CHECKOUT, read
from tools.delivery.pipelines import CHECK, PIPELINES, Step, images, steps
from tools.delivery.pipelines import read as parsed

BUILD, STAGING, PROMOTION, PRODUCTION = PIPELINES
DIGEST = re.compile(r"[a-z0-9./-]+(:[\w.-]+)?@sha256:[0-9a-f]{64}")
GOOGLE = re.compile(r"gcr\.io/google\.com/cloudsdktool/google-cloud-cli:\d+\.\d+\.\d+-stable")
EVERY = [(path, step) for path in PIPELINES for step in steps(path)]
NAMED = [f"{path}-{step.id}" for path, step in EVERY]
DEFAULT = {"PROJECT_ID", "LOCATION", "COMMIT_SHA"}  # what Cloud Build fills in by itself


def named(path: str) -> dict[str, Step]:
    return {step.id: step for step in steps(path)}


def commands(step: Step) -> list[list[str]]:
    """The commands of a step, as words; the shell's own lines among them."""
    text = re.sub(r"\\\n\s*", " ", step.script)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    return [list(step.args)] if step.args else [shlex.split(line, posix=True) for line in lines if "$(" not in line]


@pytest.mark.parametrize(("path", "step"), EVERY, ids=NAMED)
def test_a_step_runs_in_an_image_that_cannot_be_moved(path: str, step: Step) -> None:
    if step.image == CHECK:
        built = {name for name in step.after if named(path)[name].args[:3] == ("build", "--target", CHECK)}
        assert built, "the image `check` is built by a step before"
    else:
        assert step.image in images().values(), "Dependabot renews what stands in delivery/Dockerfile"
        assert DIGEST.fullmatch(step.image) or GOOGLE.fullmatch(step.image)


def test_every_image_of_the_list_is_used() -> None:
    used = {step.image for _, step in EVERY}
    copied = set(re.findall(r"COPY --from=(\w+)", read("delivery/Dockerfile")))
    unused = {stage for stage, image in images().items() if image not in used} - copied - {CHECK}
    assert unused == set()


@pytest.mark.parametrize("path", PIPELINES)
def test_nothing_that_came_with_a_message_becomes_shell(path: str) -> None:
    """Substitutions are pasted into `args` and `env` as text; a script reads them as variables, in quotation marks."""
    for step in steps(path):
        assert step.args[:1] not in (("bash",), ("sh",)), step.id
        given = {each.split("=", 1)[0] for each in step.env}
        read_here = set(re.findall(r"\$\{?([A-Z_]+)", step.script))
        assert read_here <= given | {"BUILDER", "RUNTIME"}, step.id
        assert re.match(
            r"#!/(?:usr/bin/env bash\nset -euo pipefail|bin/sh\nset -eu|busybox/sh\nset -eu)\n", step.script
        ) or (step.args), f"{step.id} goes on after a failure"


@pytest.mark.parametrize("path", PIPELINES)
def test_every_substitution_has_a_value(path: str) -> None:
    document = parsed(path)
    text = yaml.safe_dump([each | {"script": ""} for each in document["steps"]])
    asked = set(re.findall(r"\$\{?([A-Z_]+)\}?", text + str(document.get("substitutions"))))
    assert asked <= DEFAULT | set(document["substitutions"])
    assert set(document["substitutions"]) <= asked


@pytest.mark.parametrize("path", PIPELINES)
def test_the_trigger_knows_what_the_pipeline_asks(path: str) -> None:
    """Each substitution of Terraform is one of the file, and each empty one of the file is filled by Terraform."""
    trigger = read("terraform/delivery.tf")
    for name, value in parsed(path)["substitutions"].items():
        assert value != "" or re.search(rf"\b{name}\s*=", trigger), f"{path}: nobody gives {name}"


@pytest.mark.parametrize("path", PIPELINES)
def test_a_make_target_exists(path: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE)) | {".venv/.installed"}
    asked = {words[1] for step in steps(path) for words in commands(step) if words and words[0] == "make"}
    assert asked <= targets
    assert asked or path == PROMOTION


@pytest.mark.parametrize("path", [STAGING, PRODUCTION])
def test_a_module_and_its_options_exist(path: str) -> None:
    words = [each for step in steps(path) for each in commands(step)]
    found = [each[each.index(python) :] for each in words for python in each if python.endswith("/python")]
    assert found
    for _, _, module, *rest in found:
        main = importlib.util.find_spec(f"{module}.__main__")
        assert main is not None
        assert main.origin is not None
        known = options(Path(main.origin))
        assert {word for word in rest if word.startswith("--")} <= known


def options(path: Path) -> set[str]:
    """What `add_argument` of a module takes."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    adding = [node for node in calls if isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument"]
    return {
        arg.value
        for node in adding
        for arg in node.args
        if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
    }


@pytest.mark.parametrize("path", PIPELINES)
def test_a_file_that_a_step_names_exists(path: str) -> None:
    text = "\n".join(step.script + "\n" + " ".join(step.args) for step in steps(path))
    folders = "|".join(sorted(re.escape(each.name) for each in CHECKOUT.iterdir() if each.is_dir()))
    files = set(re.findall(rf"(?<![\w./-])((?:{folders})/[\w./-]+|Dockerfile|\.trivyignore\.yaml)", text))
    made = {"build/sbom.json"}
    assert {name for name in files - made if not name.startswith(".venv/") and not (CHECKOUT / name).exists()} == set()


def test_an_image_is_checked_before_it_is_pushed_and_attested_last() -> None:
    found = named(BUILD)
    assert {"lint", "audit", "test", "sbom", "build"} <= found["gate"].after
    assert "gate" in found["push"].after
    assert {"push", "bill"} <= found["attest"].after
    assert found["announce"].after == set(found) - {"announce"}, "nothing is announced while a step still runs"


def test_an_image_is_made_of_the_checkout_as_it_came() -> None:
    """What checks and tests leave behind, or write into it, is not in it: they begin when it is made."""
    found = named(BUILD)
    assert found["build"].after == {"bases"}
    ours = {"tools", "history", "bases", "build"}
    assert [name for name in set(found) - ours if "build" not in found[name].after] == []


def test_a_promotion_is_looked_at_again_before_it_is_copied() -> None:
    found = named(PROMOTION)
    assert {"attested", "gate"} <= found["copy"].after
    assert "copy" in found["attest"].after
    assert "attest" in found["announce"].after


@pytest.mark.parametrize(("path", "step"), [(BUILD, "gate"), (PROMOTION, "gate")])
def test_the_gate_of_trivy_closes(path: str, step: str) -> None:
    args = set(named(path)[step].args)
    assert {"image", "--exit-code=1", "--severity=HIGH,CRITICAL", "--ignorefile=.trivyignore.yaml"} <= args
    assert not [each for each in args if "unfixed" in each or "skip" in each]


def test_staging_is_looked_at_from_outside_before_anybody_asks_for_a_promotion() -> None:
    found = named(STAGING)
    assert "release" in found["zap"].after & found["nuclei"].after
    assert {"look", "zap", "nuclei", "clean"} <= found["ask"].after
    assert "nuclei" in found["clean"].after
    assert found["zap"].args[0] == "zap-baseline.py"
    assert found["zap"].env == ("HOME=/tmp",), "it writes its plan there, and is not root"
    assert {found["zap"].args[2], *found["nuclei"].args} >= {"https://${_DOMAIN}/docs", "-target=https://${_DOMAIN}"}
    assert "-no-mhe" in found["nuclei"].args, "it gives up after 30 errors, and ends with 0"


def test_nuclei_proves_that_it_has_seen_the_api() -> None:
    nuclei = named(STAGING)["nuclei"]
    (given,) = [each.removeprefix("-templates=").split(",") for each in nuclei.args if each.startswith("-templates=")]
    (own,) = [each for each in given if each.startswith("/workspace/")]
    template = parsed(own.removeprefix("/workspace/"))
    assert template["id"] == "seen"
    assert f"[{template['id']}" + "\\]" in named(STAGING)["clean"].script
    assert template["info"]["severity"] in next(each for each in nuclei.args if each.startswith("-severity="))
    (request,) = template["http"]
    assert (request["path"], request["matchers"]) == (
        ["{{BaseURL}}/health/ready"],
        [{"type": "status", "status": [200]}],
    )
    assert {"http/cves/", "http/vulnerabilities/", "http/exposures/", "http/misconfiguration/"} <= {*given}


@pytest.mark.parametrize("path", [STAGING, PRODUCTION])
def test_a_release_runs_the_tools_of_its_own_commit(path: str) -> None:
    found = named(path)
    assert "commit" in found["release"].after
    assert "origin" in found["commit"].after
    assert "git merge-base --is-ancestor" in found["commit"].script


@pytest.mark.parametrize("path", [STAGING, PRODUCTION])
def test_a_release_has_the_time_to_go_back(path: str) -> None:
    """Cloud Build only kills, when its own time is over."""
    script = named(path)["release"].script
    found = re.search(r"\n *exec timeout --kill-after=(\d+) (\d+) \\\n", script)
    assert found
    back, forth = map(int, found.groups())
    assert int(parsed(path)["timeout"].removesuffix("s")) > back + forth + 1200
    assert forth >= 3600 + 5400, "an hour to wait for another release, and the time for this one"
    assert back >= 1800


def test_no_step_may_fail_in_silence() -> None:
    for path in PIPELINES:
        for each in parsed(path)["steps"]:
            assert not {"allowFailure", "allowExitCodes"} & set(each), each["id"]
        assert parsed(path)["options"]["logging"] == "CLOUD_LOGGING_ONLY", "an account of ours needs it"


def test_the_message_of_one_pipeline_is_what_the_next_expects() -> None:
    """The topic of each `publish`, and the fields of its message, against the triggers."""
    trigger = read("terraform/delivery.tf")
    for path, step, topic in (
        (BUILD, "announce", "releases"),
        (STAGING, "ask", "candidates"),
        (PROMOTION, "announce", "releases"),
    ):
        script = named(path)[step].script
        assert f"gcloud pubsub topics publish {topic} " in script
        assert re.search(rf'topic\s*=\s*"{topic}"', trigger)
        fields = set(re.findall(r'\\"(\w+)\\": ', script))
        assert fields == set(re.findall(r"\$\(body\.message\.data\.(\w+)\)", trigger)) == {"image", "commit"}


def exceptions(kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parsed(".trivyignore.yaml")[kind]
    return found


@pytest.mark.parametrize("kind", ["vulnerabilities", "secrets"])
def test_an_exception_from_the_gate_has_a_reason_and_an_end(kind: str) -> None:
    for each in exceptions(kind):
        assert len(each["statement"]) > 25
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", str(each["expired_at"]))


def test_rules_of_zap_are_rules() -> None:
    lines = [line for line in read("delivery/zap.conf").splitlines() if not line.startswith("#")]
    assert len({line.split("\t")[0] for line in lines}) == len(lines) > 10
    for line in lines:
        assert re.fullmatch(r"\d{5}\t(FAIL|IGNORE|WARN|INFO)\t.{10,}", line)


def test_the_page_tells_every_pipeline_and_every_gate() -> None:
    page = read("docs/delivery.md")
    assert [path for path in PIPELINES if f"[{path}](../{path})" not in page] == []
    told = set(re.findall(r"^\| `(\w+)` (?:of the promotion )?\|", page, re.MULTILINE))
    gates = {step.id for _, step in EVERY} & {"lint", "audit", "test", "sbom", "gate", "attest", "release", "look"}
    assert told == gates | {"zap", "nuclei"}
