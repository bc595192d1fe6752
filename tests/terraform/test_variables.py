"""Every environment says what the variables ask for, and nothing else."""

import pytest

from tools.terraform.check import CHECKOUT
from tools.terraform.hcl import parse
from tools.terraform.module import load, sources

DECLARED = load(sources(CHECKOUT / "terraform")).declared["variable"]
ENVIRONMENTS = sorted((CHECKOUT / "terraform" / "env").glob("*.tfvars"))


def test_two_environments():
    assert [path.stem for path in ENVIRONMENTS] == ["production", "staging"]
    assert [path.name for path in sorted(ENVIRONMENTS[0].parent.glob("*.gcs.tfbackend"))] == [
        "production.gcs.tfbackend",
        "staging.gcs.tfbackend",
    ]


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environment(path):
    values = parse(path.read_text())
    assert sorted(set(values) - set(DECLARED)) == [], "nobody declares these: Terraform would only warn"
    needed = {name for name, entry in DECLARED.items() if "default" not in entry.body}
    assert sorted(needed - set(values)) == []
    assert values["environment"] == f'"{path.stem}"'


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_a_variable(name):
    entry = DECLARED[name]
    assert entry.where.startswith("terraform/variables.tf:")
    assert {"type", "description"} <= set(entry.body)
