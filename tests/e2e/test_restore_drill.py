"""The restore drill with few rows: a lost database comes back to a moment, and forgets again whom it had forgotten."""

import dataclasses
import io
from pathlib import Path

from local.demo.console import Console
from local.drill import report, story
from local.drill.filling import Amount
from local.drill.site import Site
from local.drill.story import Drill, Facts
from tests.conftest import CHECKOUT

TASKS = 4_000
STEPS = {
    "base backup, verified",
    "every chain is anchored",
    "the base backup is put back",
    "the log is replayed up to the moment",
    "the erasures are replayed",
    "every audit chain is verified",
}
FIGURES = {"tasks": 8.0, "events": 8.0, "rows": 9.0, "database_mib": 16.0, "backup_mib": 20.0}
FIGURES |= {"archived_mib": 64.0, "archive_lag": 1.0, "lost_rows": 3.0, "rto": 12.0, "rpo": 4.0}


class Quiet(Console):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.checks: list[str] = []

    def check(self, held: bool, who: str, text: str, found: object = "") -> bool:
        self.checks.append(f"{who} {text}" if held else f"{who} {text} — found: {found}")
        return super().check(held, who, text, found)


def test_a_restored_database_is_complete_and_forgets_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    site, console = Site(tmp_path / "site"), Quiet()
    drill = Drill(site, console, Amount(TASKS), archive_seconds=60)
    try:
        facts = drill.run()
    finally:
        site.stop()
        site.forget()
    assert console.failed == [], "\n".join(console.checks)
    assert len(console.checks) == 17
    assert facts.steps.keys() >= STEPS
    assert facts.figures["rows"] > TASKS
    assert facts.figures["lost_rows"] > 0
    assert 0 < facts.figures["archive_lag"] < facts.rpo < story.RPO_SECONDS


def test_a_missed_objective_fails() -> None:
    def verdict(**figures: float) -> int:
        console = Console(io.StringIO())
        drill = Drill(Site(Path("nowhere")), console, Amount(1), 60)
        drill.facts = Facts(figures={**FIGURES, **figures})
        drill.judge()
        return console.verdict()

    assert verdict() == 0
    assert verdict(rto=story.RTO_SECONDS + 1.0) == 1
    assert verdict(rpo=story.RPO_SECONDS + 1.0) == 1


def test_the_report_goes_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    facts = dataclasses.replace(Facts(), steps={"a step": 1.25}, figures=dict(FIGURES))
    report.write(page, facts, held=False)
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"\n{report.END}\nafter\n")
    assert "old" not in text
    assert "NOT EVERY CHECK HELD" in text
    assert "| a step | 1.2 |" in text
    assert "**12.0 s**" in text
    assert "**4.0 s**" in text


def test_the_page_holds_the_figures_of_a_drill_that_held() -> None:
    text = (CHECKOUT / "docs" / "restore-drill.md").read_text()
    measured = text[text.index(report.BEGIN) : text.index(report.END)]
    assert "Every check held." in measured
    assert "| the erasures are replayed |" in measured
