"""The manifests of the session API: rendered, valid, within the rules; and every rule finds its faults."""

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra import kustomize, policies, running
from tests.infra.cluster import Cluster
from tests.infra.faults import FAULTS
from tests.structure.sources import CHECKOUT, read

MANIFESTS = CHECKOUT / "sessions" / "k8s"
OVERLAYS = ("production", "staging")
SEEDED = [(rule, place) for rule, faults in FAULTS.items() for place in range(len(faults))]
RENDERED = {overlay: kustomize.render(MANIFESTS / overlay) for overlay in OVERLAYS}


@pytest.fixture
def production() -> list[kustomize.Object]:
    """The objects of production, to be broken."""
    return copy.deepcopy(RENDERED["production"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_environment_keeps_every_rule(overlay):
    assert policies.broken(Cluster(RENDERED[overlay])) == {}


@pytest.mark.parametrize(("rule", "place"), SEEDED, ids=[f"{rule}-{place}" for rule, place in SEEDED])
def test_a_fault_is_found(production, rule, place):
    changed = FAULTS[rule][place](production)

    if rule == "schemas":
        assert list(policies.schema_faults(changed))
    else:
        assert policies.broken(Cluster(production), rule)


def test_every_rule_has_its_faults():
    assert set(FAULTS) == set(policies.RULES)
    assert running.__doc__


def test_environments_share_nothing():
    """Project, database, cache, address and identity of one are not found in the other's objects."""
    staging, production = (Cluster(RENDERED[overlay]) for overlay in ("staging", "production"))
    own = {"PROJECT_ID", "DATABASE_URL", "VALKEY_URL", "PUBLIC_URL", "SERVICE_URL"}
    assert all(staging.settings[name] != production.settings[name] for name in own)
    assert staging.settings["PROJECT_ID"] not in str(production.objects)
    assert production.settings["PROJECT_ID"] not in str(staging.objects)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_finds_every_setting_that_it_needs(overlay):
    """The settings are read in a process that has the ConfigMap for its environment, and nothing else."""
    program = "from common.settings import settings; print(settings().service, settings().port, settings().host)"
    environment = {**Cluster(RENDERED[overlay]).settings, "PYTHONPATH": str(CHECKOUT)}

    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout == "sessions 8080 0.0.0.0\n"


def test_the_image_holds_what_a_pod_starts():
    dockerfile, ignored = read("Dockerfile"), read(".dockerignore").splitlines()
    copied = set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE))
    compiled = re.findall(r"compileall -q --invalidation-mode unchecked-hash (.+)$", dockerfile, re.MULTILINE)

    assert {"common", "functions", "migrations", "sessions"} == copied
    assert set(" ".join(compiled).split()) == {*copied, "lib"}
    assert {f"!{name}" for name in copied} <= set(ignored)
    assert "sessions/k8s" in ignored
    module = Cluster(RENDERED["production"]).container["command"][-1]
    assert (CHECKOUT / Path(*module.split("."))).with_suffix(".py").exists()
    assert "/usr/bin/python3" in dockerfile


def test_the_page_says_what_the_load_balancer_needs():
    """What Terraform builds from stands in docs/sessions-on-gke.md, as the manifests have it."""
    page = read("docs/sessions-on-gke.md")
    wanted = {running.NEG, running.DATABASE_SUBNET, "/health/serving", "X-Edge-Key", "X-Client-Ip", *running.FRONTS}
    assert {text for text in wanted if text not in page} == set()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubectl_renders_the_same(overlay):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here: our renderer is compared with it where there is one")
    command = [kubectl, "kustomize", str(MANIFESTS / overlay)]
    environment = {"PATH": os.defpath, "HOME": "/nonexistent"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    if done.returncode != 0 and "unknown command" in done.stderr:
        pytest.skip("this kubectl has no kustomize")

    assert done.returncode == 0, done.stderr
    theirs, ours = kustomize.documents(done.stdout), RENDERED[overlay]
    assert sorted(map(_name, ours)) == sorted(map(_name, theirs))
    assert sorted(ours, key=_name) == sorted(theirs, key=_name)


def _name(given: kustomize.Object) -> tuple[str, str]:
    return given["kind"], given["metadata"]["name"]
