"""The language: every case of language_cases.yaml, executed by the running stand-in."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CASES: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("language_cases.yaml").read_text())


@pytest.fixture(scope="module")
def deployed(new_cloud: Callable[[], Any]) -> Iterator[Any]:
    cloud = new_cloud()
    for name, case in CASES.items():
        cloud.deploy(name, yaml.safe_dump(case["workflow"], sort_keys=False))
    cloud.up("--env", "OURS=a=b")
    yield cloud
    cloud.down()


@pytest.mark.parametrize("name", sorted(CASES))
def test_case(deployed: Any, name: str) -> None:
    case = CASES[name]
    shown = deployed.wait(deployed.create(name, case.get("argument")))
    if "result" in case:
        assert shown["state"] == "SUCCEEDED", shown
        assert json.loads(shown["result"]) == case["result"]
        return
    assert shown["state"] == "FAILED", shown
    payload = json.loads(shown["error"]["payload"])
    if "raised" in case:
        assert payload == case["raised"]
    else:
        assert payload["tags"] == [case["error"]]
        assert payload["message"].startswith(case["error"] + ": ")


def test_an_uncaught_error_names_its_steps(deployed: Any) -> None:
    shown = deployed.wait(deployed.create("recursion_ends"))
    elements = shown["error"]["stackTrace"]["elements"]
    assert [each["routine"] for each in elements] == ["main2", "main"]
    assert 'in step "c", routine "main", line: ' in shown["error"]["context"]
