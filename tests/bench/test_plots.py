"""Plots: well-formed, told in words as well, and no wider than the page."""

from pathlib import Path
from xml.etree import ElementTree

from bench import plots
from bench.results import Cases
from tests.bench.conftest import Made

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    """The drawing, or a ParseError."""
    return ElementTree.fromstring(svg)  # noqa: S314 - our own


def test_bars_are_as_long_as_their_figures(cases: Cases) -> None:
    root = parsed(plots.drawings(cases)["requests.svg"])
    bars = root.findall(f"{SVG}rect")

    assert [bar.get("class") for bar in bars] == ["first", "second"] * 3
    (django, _, ours, *_) = [float(str(bar.get("width"))) for bar in bars]
    assert round(django / ours, 1) == round(4.5 / 0.75, 1)
    assert root.find(f"{SVG}title") is not None
    assert "dev_context" in str(root.findtext(f"{SVG}desc"))


def test_lines_go_from_the_smallest_to_the_largest(case: Made) -> None:
    rows = {size: [{"server_cpu": 1.0, "postgres_cpu": 0.5}] for size in ("1000", "10", "100")}
    root = parsed(plots.drawings({"growth tenants list": case(rows)})["growth-tenants.svg"])
    across = [float(str(dot.get("cx"))) for dot in root.findall(f"{SVG}circle")]

    assert across == sorted(across)
    assert len(across) == 3
    assert max(across) < plots.WIDTH
    assert any("1,000" in str(text.text) for text in root.findall(f"{SVG}text"))


def test_light_and_dark(cases: Cases) -> None:
    assert "prefers-color-scheme: dark" in plots.drawings(cases)["requests.svg"]


def test_names_are_escaped() -> None:
    parsed(plots.bars("a < b", {"x & y": [plots.Bar('"<>', 1, 2)]}))


def test_one_size_alone_is_drawn(case: Made, tmp_path: Path) -> None:
    plots.draw({"growth rows get": case({"10": [{"server_cpu": 0.0, "postgres_cpu": 0.0}]})}, tmp_path)

    assert [file.name for file in tmp_path.iterdir()] == ["growth-rows.svg"]


def test_nothing_measured_is_nothing_drawn() -> None:
    assert plots.drawings({}) == {}
