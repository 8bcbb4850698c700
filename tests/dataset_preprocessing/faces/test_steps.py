"""A step makes its folder once, goes on after an interruption, and says all that is wrong."""

import json

import pytest

from dataset_preprocessing.faces import steps
from dataset_preprocessing.faces.steps import PreprocessingError, Step, provenance_of, run_step


def make(job):
    if job.get("broken"):
        raise PreprocessingError(job["broken"])
    return f"{job['value']} of {job.get('picture')}".encode()


def step(count=4, **options):
    jobs = {f"{k}.txt": dict(value=k, picture=f"x/{k}.png") for k in range(count)}
    return Step("write", make, jobs, **options)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_and_record(tmp_path):
    found = step(settings=dict(size=3), provenance=dict(who="me"), closing=lambda made: {"a": b"z"})
    report = run_step(found, tmp_path / "deep" / "out")
    assert report.made == [f"{k}.txt" for k in range(4)] and not report.was_there
    files = content(tmp_path / "deep" / "out")
    assert sorted(files) == ["0.txt", "1.txt", "2.txt", "3.txt", "a", "pipeline.json"]
    assert files["2.txt"] == b"2 of x/2.png"
    record = json.loads(files["pipeline.json"])
    assert record["step"] == "write" and record["settings"] == dict(size=3)
    assert provenance_of(tmp_path / "deep" / "out") == dict(who="me")
    assert provenance_of(tmp_path) == {}


def test_several_processes_write_the_same(tmp_path):
    run_step(step(), tmp_path / "one")
    run_step(step(), tmp_path / "two", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_what_is_done_is_not_made_again(tmp_path, monkeypatch):
    run_step(step(), tmp_path / "out")
    (tmp_path / "out" / "further.json").write_text("{}")
    monkeypatch.setattr(steps, "_make_all", None)
    again = run_step(step(), tmp_path / "out")
    assert again.was_there and again.made == [f"{k}.txt" for k in range(4)]


def test_folders_may_move(tmp_path):
    run_step(step(), tmp_path / "out")
    jobs = {
        name: dict(job, picture=f"elsewhere/{job['value']}.png")
        for name, job in step().jobs.items()
    }
    assert run_step(Step("write", make, jobs), tmp_path / "out").was_there


@pytest.mark.parametrize(
    "other", [step(5), step(settings=dict(a=1)), step(provenance=dict(a=1)), step(3)]
)
def test_another_step_does_not_take_the_folder(tmp_path, other):
    run_step(step(), tmp_path / "out")
    with pytest.raises(PreprocessingError, match="was made of other pictures or settings"):
        run_step(other, tmp_path / "out")


def test_a_folder_of_somebody_else(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(PreprocessingError, match="no step made it"):
        run_step(step(), tmp_path / "out")
    assert content(tmp_path / "out") == {"mine.txt": b""}


@pytest.mark.parametrize("after", range(4))
def test_an_interrupted_step_goes_on(tmp_path, after):
    """To the same bytes, without making anew what is there."""
    made, stop = [], [True]

    def stopping(job):
        if job["value"] == after and stop[0]:
            raise KeyboardInterrupt
        made.append(job["value"])
        return make(job)

    jobs = step().jobs
    with pytest.raises(KeyboardInterrupt):
        run_step(Step("write", stopping, jobs), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    stop[0] = False
    run_step(Step("write", stopping, jobs), tmp_path / "out")
    assert made == [0, 1, 2, 3]
    run_step(step(), tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def broken_step():
    jobs = step().jobs
    jobs["1.txt"] = dict(value=1, broken="it is\nbroken")
    jobs["3.txt"] = dict(value=3, broken="it is gone")
    return Step("write", make, jobs)


def test_all_problems_are_told(tmp_path):
    with pytest.raises(PreprocessingError) as error:
        run_step(broken_step(), tmp_path / "out")
    lines = str(error.value).splitlines()
    assert lines[0].startswith("2 problems, nothing is written") and "--on-error=skip" in lines[0]
    assert lines[1:] == ["  1.txt: it is broken", "  3.txt: it is gone"]
    assert not (tmp_path / "out").exists()


def test_skip(tmp_path):
    report = run_step(broken_step(), tmp_path / "out", on_error="skip")
    assert report.made == ["0.txt", "2.txt"]
    assert report.left_out == {"1.txt": "it is broken", "3.txt": "it is gone"}
    again = run_step(broken_step(), tmp_path / "out", on_error="skip")
    assert again.was_there and (again.made, again.left_out) == (report.made, report.left_out)


def test_problems_that_are_known_before(tmp_path):
    """Nothing is made with them, or all but what they are about."""
    made = []

    def counted(job):
        made.append(job["value"])
        return make(job)

    found = Step("write", counted, step().jobs, problems={"x.png": "is gone"})
    with pytest.raises(
        PreprocessingError, match="1 problem, nothing is written.*\n  x.png: is gone"
    ):
        run_step(found, tmp_path / "out")
    assert not made and not (tmp_path / "out").exists()
    report = run_step(found, tmp_path / "out", on_error="skip")
    assert made == [0, 1, 2, 3] == [int(name[0]) for name in report.made]
    assert report.left_out == {"x.png": "is gone"}
    with pytest.raises(PreprocessingError, match="x.png: is gone"):
        run_step(Step("write", make, {}, problems=found.problems), tmp_path / "o", on_error="skip")


def test_nothing_is_left(tmp_path):
    jobs = {"a": dict(broken="it is broken")}
    with pytest.raises(PreprocessingError, match="1 problem, nothing"):
        run_step(Step("write", make, jobs), tmp_path / "out", on_error="skip")
    with pytest.raises(PreprocessingError, match="nothing to make it from"):
        run_step(Step("write", make, {}), tmp_path / "out")


def test_many_problems_are_shortened():
    lines = str(steps.problems_error([str(k) for k in range(50)])).splitlines()
    assert len(lines) == 22 and lines[-1] == "  and 30 more"
