"""The Executions REST API: who may call it, what it refuses, what it answers."""

import json
import threading
from typing import Any

from local.layout import PROJECT, REGION

PARENT = f"/v1/projects/{PROJECT}/locations/{REGION}/workflows"
ECHO = "main: {params: [a], steps: [{r: {return: '${a}'}}]}"


def test_it_works(cloud: Any) -> None:
    cloud.deploy("echo", ECHO)
    cloud.up()
    body = {"argument": '{"request_id": "é"}', "labels": {"kind": "test"}, "callLogLevel": "LOG_ERRORS_ONLY"}
    status, created = cloud.request("POST", f"{PARENT}/echo/executions", body)
    assert status == 200
    assert created["name"].startswith(f"{PARENT.removeprefix('/v1/')}/echo/executions/")
    shown = cloud.wait("/v1/" + created["name"])
    assert shown["state"] == "SUCCEEDED"
    assert json.loads(shown["result"]) == {"request_id": "é"}
    assert shown["argument"] == body["argument"]
    assert shown["labels"] == {"kind": "test"}
    assert shown["workflowRevisionId"].startswith("000001-")
    assert shown["startTime"] <= shown["endTime"]
    assert shown["status"] == {"currentSteps": [{"routine": "main", "step": "r"}]}


def test_an_execution_without_argument_gets_null(cloud: Any) -> None:
    cloud.deploy("echo", ECHO)
    cloud.up()
    assert cloud.wait(cloud.create("echo"))["result"] == "null"


def test_callers(cloud: Any) -> None:
    cloud.deploy("echo", ECHO)
    cloud.up()
    path = f"{PARENT}/echo/executions"
    assert cloud.request("POST", path, {}, caller="tasks")[0] == 200
    for refused in ("projects", "exports-jobs", "workflows", "scheduler"):  # Cloud Tasks alone starts them
        assert cloud.request("POST", path, {}, caller=refused)[0] == 403
    status, error = cloud.request("POST", path, {}, caller=None)
    assert (status, error["error"]["status"]) == (401, "UNAUTHENTICATED")
    status, error = cloud.request("POST", path, {}, caller="tasks@another.iam.gserviceaccount.com")
    assert (status, error["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert cloud.request("GET", path, caller=None)[0] == 401


REFUSED: list[tuple[Any, str]] = [
    ({"argument": {"a": 1}}, "argument is a JSON string"),
    ({"argument": "NaN"}, "argument is not valid JSON"),
    ({"argument": "{"}, "argument is not valid JSON"),
    ({"argument": '"' + "x" * 512 * 1024 + '"'}, "at most 512 KB"),
    ({"arguments": "{}"}, "unknown field arguments"),
    ({"labels": {"a": 1}}, "labels"),
    ({"callLogLevel": "ALL"}, "callLogLevel"),
    ([], "JSON object"),
]


def test_refused(cloud: Any) -> None:
    cloud.deploy("echo", ECHO)
    cloud.up()
    for body, message in REFUSED:
        status, error = cloud.request("POST", f"{PARENT}/echo/executions", body)
        assert (status, error["error"]["status"]) == (400, "INVALID_ARGUMENT")
        assert message in error["error"]["message"]
    assert cloud.request("GET", f"{PARENT}/echo/executions")[1]["executions"] == []


def test_what_does_not_exist(cloud: Any) -> None:
    cloud.deploy("echo", ECHO)
    cloud.deploy("other", ECHO)
    cloud.up()
    execution = cloud.create("echo")
    for path in (
        f"{PARENT}/none/executions",
        f"{PARENT}/echo/executions/none",
        execution.replace("/echo/", "/other/"),
        f"{PARENT.replace(REGION, 'us-central1')}/echo/executions",
        "/v1/else",
    ):
        status, error = cloud.request("GET", path)
        assert (status, error["error"]["status"]) == (404, "NOT_FOUND")


def test_list(cloud: Any) -> None:
    cloud.deploy("echo", ECHO)
    cloud.deploy("other", ECHO)
    cloud.up()
    made = [cloud.create("echo", number) for number in range(5)]
    cloud.create("other")
    for each in made:
        cloud.wait(each)
    path = f"{PARENT}/echo/executions"
    found: list[str] = []
    token = ""
    for _ in range(3):
        _, page = cloud.request("GET", f"{path}?pageSize=2&pageToken={token}")
        found += ["/v1/" + each["name"] for each in page["executions"]]
        token = page.get("nextPageToken", "")
    assert (found, token) == (made[::-1], "")
    basic = cloud.request("GET", path)[1]["executions"][0]
    assert "result" not in basic
    assert basic["state"] == "SUCCEEDED"
    assert cloud.request("GET", path + "?view=FULL")[1]["executions"][0]["result"] == "4"
    assert cloud.request("GET", path + "?pageToken=x")[0] == 400
    assert cloud.request("GET", path + "?filter=x")[0] == 400


def test_cancel(cloud: Any, target: Any, answer: Any, eventually: Any) -> None:
    gate = threading.Event()
    target.answers["/"] = [answer(gate=gate)]
    source = """
    main:
      params: [url]
      steps:
        - c: {call: http.get, args: {url: "${url}"}}
        - d: {call: http.get, args: {url: "${url + \\"after\\"}"}}
    """
    cloud.deploy("slow", source)
    cloud.up()
    execution = cloud.create("slow", target.url + "/")
    eventually(lambda: target.now == 1)
    status, shown = cloud.request("POST", f"{execution}:cancel", {})
    assert (status, shown["state"]) == (200, "CANCELLED")
    gate.set()
    status, error = cloud.request("POST", f"{execution}:cancel", {})
    assert (status, error["error"]["status"]) == (400, "FAILED_PRECONDITION")
    cloud.kill()
    cloud.up()
    assert cloud.request("GET", execution)[1]["state"] == "CANCELLED"
    assert target.count("/after") == 0


def test_a_failed_execution(cloud: Any) -> None:
    cloud.deploy("fails", "main:\n  steps:\n    - a:\n        assign: [{x: '${\"a\" + 1}'}]\n")
    cloud.up()
    shown = cloud.wait(cloud.create("fails"))
    assert shown["state"] == "FAILED"
    assert json.loads(shown["error"]["payload"])["tags"] == ["TypeError"]
    (element,) = shown["error"]["stackTrace"]["elements"]
    assert (element["step"], element["routine"], element["position"]["line"]) == ("a", "main", "3")
    assert "result" not in shown
