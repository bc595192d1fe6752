"""The figures of a drill, written into docs/restore-drill.md between two marks."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from local.drill.story import RPO_SECONDS, RTO_SECONDS, Facts

BEGIN, END = "<!-- figures: written by make restore-drill -->", "<!-- end of the figures -->"

HELD, NOT_HELD = "Every check held.", "NOT EVERY CHECK HELD."


def figures(facts: Facts, *, held: bool) -> str:
    """A table of what was measured."""
    known = facts.figures
    machine = f"{os.cpu_count()} CPUs, {platform.system()}, one local disk, fsync on"
    lines = [
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {machine}. {HELD if held else NOT_HELD}",
        "",
        "| objective | limit | measured |",
        "|---|---|---|",
        f"| RTO: from the loss to the open door | {RTO_SECONDS} s | **{facts.rto:.1f} s** |",
        f"| RPO: age of the youngest row that came back | {RPO_SECONDS} s | **{facts.rpo:.1f} s** |",
        "",
        f"{known['tasks']:,.0f} tasks and {known['events']:,.0f} audit events at the backup, {known['rows']:,.0f} tasks"
        f" at the moment. Database {known['database_mib']:,.0f} MiB, base backup {known['backup_mib']:,.0f} MiB,"
        f" archived log {known['archived_mib']:,.0f} MiB.",
        f"At the loss the archive was {known['archive_lag']:.1f} s behind."
        f" {known['lost_rows']:.0f} promised rows were lost, all of them later than the moment.",
        "",
        "| step | seconds |",
        "|---|---|",
    ]
    lines += [f"| {name} | {seconds:.1f} |" for name, seconds in facts.steps.items()]
    return "\n".join(lines)


def write(path: Path, facts: Facts, *, held: bool) -> None:
    """Replace what stands between the marks. Raises ValueError when they are not there."""
    text = path.read_text()
    before, rest = text[: text.index(BEGIN)], text[text.index(END) :]
    path.write_text(f"{before}{BEGIN}\n{figures(facts, held=held)}\n{rest}")
