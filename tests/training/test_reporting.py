"""The record of a run, and that a later process goes on with it."""

import json
import sys
import time

import pytest
import torch

from torch_utils import training_stats
from training.reporting import PhaseTimer, RunLog

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(training_stats, "_registry", training_stats._Registry())


@pytest.fixture
def writers(monkeypatch):
    """The TensorBoard writers that are made, as [(arguments, steps)]."""
    import torch.utils.tensorboard as tensorboard

    made = []

    class Writer:
        def __init__(self, folder, purge_step):
            self.steps = []
            made.append((purge_step, self.steps))

        def add_scalar(self, name, value, step, walltime):
            self.steps.append(step)

        def flush(self):
            pass

        def close(self):
            pass

    monkeypatch.setattr(tensorboard, "SummaryWriter", Writer)
    return made


def write(log, *kimgs):
    for kimg in kimgs:
        training_stats.report("kimg", kimg)
        log.write(kimg * 1000)


def kimgs(folder):
    lines = (folder / "training_stats.jsonl").read_text().splitlines()
    return [json.loads(line)["kimg"]["mean"] for line in lines]


def test_what_came_after_the_checkpoint_goes(tmp_path, writers):
    log = RunLog(tmp_path, CPU, 9000, start_time=time.time() - 100)
    write(log, 0, 4)
    (tmp_path / "metric-a.jsonl").write_text("old\n")
    state, statistics = log.state_dict(), training_stats.state_dict()
    assert state["elapsed"] == pytest.approx(100, abs=20)
    write(log, 8, 12)
    with open(tmp_path / "metric-a.jsonl", "a") as file:
        file.write("new\n")
    (tmp_path / "metric-b.jsonl").write_text("new\n")
    with open(tmp_path / "training_stats.jsonl", "a") as file:
        file.write('{"kimg": {"nu')  # Torn by a kill.
    log.close()

    again = RunLog(tmp_path, CPU, 9000)
    training_stats.load_state_dict(statistics)
    again.load_state_dict(state)
    assert time.time() - again.start_time == pytest.approx(100, abs=20)
    assert (tmp_path / "metric-a.jsonl").read_text() == "old\n"
    assert (tmp_path / "metric-b.jsonl").read_text() == ""
    write(again, 8)
    again.close()
    assert kimgs(tmp_path) == [0, 4, 8]
    # Events of steps above 4, in thousands of images, are those of the lost process.
    assert writers == [(0, [0, 4, 8, 12]), (5, [8])]


def test_a_shorter_file_than_recorded_is_left_alone(tmp_path, writers):
    log = RunLog(tmp_path, CPU, 9000)
    write(log, 0, 4)
    state = log.state_dict()
    log.close()
    (tmp_path / "training_stats.jsonl").write_text("")
    again = RunLog(tmp_path, CPU, 9000)
    again.load_state_dict(state)
    again.close()
    assert (tmp_path / "training_stats.jsonl").read_bytes() == b""


def test_the_rate_is_that_of_this_process(tmp_path, writers):
    """A tick's images that an earlier process has shown do not count."""
    log = RunLog(tmp_path, CPU, total_nimg=9000)
    log.begin_tick(6000)
    log.tick_start -= 10
    line = log.status(3, 8000)
    assert "img/s 20" in line.replace("0.0", "0") or "img/s 199" in line
    assert line.startswith("tick 3     kimg 8.0") and "eta 5s" in line
    log.close()


def test_without_tensorboard(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    log = RunLog(tmp_path, CPU, 9000)
    write(log, 0, 4)
    log.close()
    assert kimgs(tmp_path) == [0, 4]
    assert capsys.readouterr().err.count("TensorBoard events are skipped") == 1


def test_the_timer_returns_what_a_phase_returns():
    timer = PhaseTimer(CPU)
    assert timer.run("Gmain", lambda a, b: a + b, 1, 2) == 3
    collector = training_stats.Collector("Timing/Gmain")
    timer.report()
    collector.update()
    assert 0 <= collector.mean("Timing/Gmain") < 1000
