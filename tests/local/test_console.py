"""What the terminal shows of the logs: serious lines, few of them, or all when asked."""

import os
from pathlib import Path

import pytest

from local import console
from local.console import Console, Log


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path, "projects")


def write(log: Log, *lines: str) -> None:
    os.write(log.handle, "".join(f"{line}\n" for line in lines).encode())


def test_quiet_shows_what_is_serious(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Console(verbose=False)
    write(log, '{"severity": "INFO", "message": "request"}', '{"severity":"ERROR","message":"failed"}')
    quiet.follow(log)
    os.write(log.handle, b'{"severity": "CRIT')
    quiet.follow(log)
    os.write(log.handle, b'ICAL"}\n')
    quiet.follow(log)

    assert capsys.readouterr().out.splitlines() == [
        'projects       {"severity":"ERROR","message":"failed"}',
        'projects       {"severity": "CRITICAL"}',
    ]


def test_quiet_does_not_let_one_service_bury_the_rest(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Console(verbose=False)
    for _ in range(20):
        write(log, *(['{"severity":"ERROR"}'] * 3))
        quiet.follow(log)

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == console.LINES_IN_WINDOW + 1
    assert str(log.path) in lines[-1]


def test_verbose_shows_all(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    write(log, *(f"line {number}" for number in range(50)))
    Console(verbose=True).follow(log)

    assert len(capsys.readouterr().out.splitlines()) == 50


def test_a_log_that_grew_too_large_starts_anew(
    log: Log, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LARGEST_LOG", 100)
    loud = Console(verbose=True)
    write(log, "x" * 200)
    loud.follow(log)
    write(log, "after")
    loud.follow(log)

    assert capsys.readouterr().out.splitlines()[-1] == "projects       after"
    assert log.path.read_text() == "after\n"
