"""A sample of the broken datasets, and that the benchmark would see what is wrong."""

from types import SimpleNamespace

import pytest

from benchmarks import broken_datasets
from benchmarks.broken_containers import PACK
from benchmarks.broken_datasets import BOTH, Case, cases, faults, faults_of, faults_of_line

CASES = cases()
SAMPLE = CASES[::12]


def test_there_are_more_than_five_hundred_of_all_kinds():
    assert len(CASES) >= 500 and len({case.name for case in CASES}) == len(CASES)
    assert {case.container for case in SAMPLE} == set(PACK) and len(SAMPLE) > 60
    groups = {case.kind.partition(":")[0] for case in CASES}
    assert groups == {"picture", "label", "label file", "name", "zip", "shards", "folder"}


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_is_refused_in_one_line(case):
    """`python -m benchmarks.broken_datasets` gives all of them."""
    assert faults_of(case, seed=1) == []


@pytest.mark.parametrize("container", PACK)
def test_a_dataset_that_is_whole_is_not_refused(container):
    found = faults_of(Case("nothing", container, 0, None, None, BOTH))
    assert [fault for fault in found if "was not refused" in fault] == [
        "dataset_tool.py: was not refused",
        "train.py: was not refused",
    ]
    assert any("out/made.zip" in fault for fault in found)


def result(output, code=1, exception=None):
    return SimpleNamespace(output=output, exit_code=code, exception=exception or SystemExit(code))


@pytest.mark.parametrize(
    "done, words",
    [
        (result("wrote x.zip", 0), "was not refused"),
        (result("", exception=KeyError("x")), "raised KeyError"),
        (result("Traceback: what a thing\n"), "status 1: "),
        (result("Error: x.zip: is no zip file\nand more of it, really\n"), "has 2 lines"),
        (result("Error: no\n"), "no line for people"),
        (result("Error: x.zip: \x1b[2J is no zip file\n"), "no line for people"),
        (result("Error: " + "x" * 600), "has 607 characters"),
    ],
)
def test_what_is_not_one_line_is_told(done, words):
    assert words in " ".join(faults(done))


def test_what_is_one_line_is_not():
    assert faults(result("Error: x.zip: is no zip file\n")) == []
    problem = "Error: 1 problem, nothing is written; skip it:\n  a.png: cannot be decoded (no)\n"
    assert faults(result(problem)) == [] == faults_of_line("x.zip: is no zip file")


def test_what_is_left_behind_is_told(monkeypatch):
    def escape(path, box, case):
        (box / "evil.png").write_bytes(b"")
        (box / "secret.png").write_bytes(b"")
        (box / "out" / ".made.zip.part").write_bytes(b"")  # with which it goes on
        return []

    monkeypatch.setattr(broken_datasets, "_convert", escape)
    found = " ".join(faults_of(CASES[0]))
    assert "evil.png" in found and "secret.png" in found and ".part" not in found
