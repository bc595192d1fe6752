"""Hundreds of faults, in every .tf file: each of them makes `make lint` fail, with or without Terraform."""

import re
import shutil
from functools import cache

import pytest

from tests.terraform.seeds import MOST, chunks, seeds
from tools.terraform.check import CHECKOUT, findings, main
from tools.terraform.module import sources

FILES = {file: chunks(file, text) for file, text in sources(CHECKOUT / "terraform").items()}
SEEDS = {file: seeds(of_file) for file, of_file in FILES.items()}
LEAST = 300


@cache
def module():
    """Every file in pieces, and what is wrong with them before any fault."""
    pieces = {name: text for of_file in FILES.values() for name, text in of_file.items()}
    return pieces, frozenset(findings(pieces))


def test_the_pieces_are_the_module():
    pieces, found = module()
    assert len(pieces) > len(FILES) > 20
    assert {finding.message for finding in found} == {
        finding.message for finding in findings(sources(CHECKOUT / "terraform"))
    }


def test_many_faults_of_every_kind():
    all_seeds = [seed for of_file in SEEDS.values() for seed in of_file]
    assert len(all_seeds) >= LEAST
    for kind in MOST:
        assert sum(seed.kind == kind for seed in all_seeds) >= 20, kind


@pytest.mark.parametrize("file", FILES)
def test_faults(file):
    pieces, before = module()
    assert SEEDS[file] or file in {"terraform/versions.tf"}
    missed = []
    for seed in SEEDS[file]:
        said = [finding.message for finding in findings({**pieces, seed.chunk: seed.text}) if finding not in before]
        if not any(re.search(seed.said, message) for message in said):
            missed.append((seed.kind, seed.said, said, seed.text))
    assert missed == []


def test_the_command_of_make_lint(tmp_path, monkeypatch, capsys):
    shutil.copytree(CHECKOUT / "terraform", tmp_path / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    monkeypatch.setattr("sys.argv", ["check", "--root", str(tmp_path)])
    kinds = {seed.kind: (file, seed) for file, of_file in SEEDS.items() for seed in of_file}
    assert set(kinds) == set(MOST)
    for file, seed in kinds.values():
        path = tmp_path / file
        whole = path.read_text()
        path.write_text(whole.replace(FILES[file][seed.chunk], seed.text, 1))
        assert main() == 1
        assert re.search(seed.said, capsys.readouterr().out), seed
        path.write_text(whole)
