"""The renderer: what it makes of the features that it knows, and that it refuses every other."""

import pytest

from tests.infra import kustomize
from tests.infra.kustomize import Refused

HEAD = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{image: i, envFrom: [{configMapRef: {name: c}}]}]}
"""
GENERATOR = "configMapGenerator: [{name: c, namespace: n, envs: [c.env]}]\n"


@pytest.fixture
def folder(tmp_path):
    """A kustomization of one pod and one ConfigMap, and what writes another one."""
    (tmp_path / "pod.yaml").write_text(POD)
    (tmp_path / "c.env").write_text("# why\nA=1\n\nB=x y <&>\nC=\n")
    (tmp_path / "kustomization.yaml").write_text(f"{HEAD}resources: [pod.yaml]\n{GENERATOR}")
    return tmp_path


def test_a_generated_name_ends_as_kustomize_ends_it(folder):
    """The suffix is what kustomize 5.5 gives to this data."""
    pod, generated = kustomize.render(folder)

    assert generated["metadata"] == {"name": "c-d2tdttt8mh", "namespace": "n"}
    assert generated["data"] == {"A": "1", "B": "x y <&>", "C": ""}
    assert pod["spec"]["containers"][0]["envFrom"] == [{"configMapRef": {"name": "c-d2tdttt8mh"}}]


def test_an_overlay_merges_patches_and_names_the_image(folder):
    over = folder / "over"
    over.mkdir()
    (over / "c.env").write_text("A=2\nD=u=v\n")
    (over / "kustomization.yaml").write_text(
        f"{HEAD}resources: [..]\n"
        "configMapGenerator: [{name: c, namespace: n, behavior: merge, envs: [c.env]}]\n"
        "images: [{name: i, newName: registry/i, digest: 'sha256:0'}]\n"
        "patches: [{target: {kind: Pod, name: p}, patch: '[{op: replace, path: /metadata/name, value: q}]'}]\n"
    )

    pod, generated = kustomize.render(over)

    assert pod["metadata"]["name"] == "q"
    assert pod["spec"]["containers"][0]["image"] == "registry/i@sha256:0"
    assert generated["data"] == {"A": "2", "B": "x y <&>", "C": "", "D": "u=v"}
    assert generated["metadata"]["name"] == "c-kb46d822f2"


REFUSED = {
    "unknown": "namespace: n\n",
    "behavior": GENERATOR.replace("envs", "behavior: merge, envs"),
    "literals": GENERATOR.replace("envs: [c.env]", "literals: [A=1]"),
    "operation": "patches: [{target: {kind: Pod, name: p}, patch: '[{op: add, path: /a, value: 1}]'}]\n",
    "nowhere": "patches: [{target: {kind: Pod, name: p}, patch: '[{op: replace, path: /a, value: 1}]'}]\n",
    "nobody": "patches: [{target: {kind: Pod, name: x}, patch: '[]'}]\n",
    "tag": "images: [{name: i, newTag: latest}]\n",
    "image": "images: [{name: x, newName: y, digest: z}]\n",
    "twice": "resources: []\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_refused(folder, name):
    (folder / "kustomization.yaml").write_text(f"{HEAD}resources: [pod.yaml]\n{REFUSED[name]}")
    with pytest.raises(Refused):
        kustomize.render(folder)


@pytest.mark.parametrize("line", ["A", "A=1\nA=2", 'A="1"', "A= 1", "A =1"])
def test_an_unclear_setting_is_refused(folder, line):
    (folder / "c.env").write_text(f"{line}\n")
    with pytest.raises(Refused):
        kustomize.render(folder)


def test_a_missing_file_is_an_error(folder):
    (folder / "kustomization.yaml").write_text(f"{HEAD}resources: [nothing.yaml]\n")
    with pytest.raises(FileNotFoundError):
        kustomize.render(folder)
