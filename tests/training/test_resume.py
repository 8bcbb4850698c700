"""Whatever ends a run, the same command goes on: to the same bits as a run that nothing ended."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest
import torch

import train
from torch_utils import training_stats
from training import checkpoints, runs
from training import training_loop as loop
from training.launch import launch
from training.phases import run_phase, update_ema
from training.snapshots import Sampler

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(train.__file__).parent
MACHINE = ("Timing/", "Resources/", "timestamp")  # Statistics that no two runs share.


@pytest.fixture
def small(tiny_config, tmp_path):
    """`small(name, ...)`: a tiny training with ADA, two iterations a tick and a checkpoint at each,
    as `00000-demo-cars` in a folder of its own."""

    def build(name, *arguments, iterations=11, **changes):
        config = tiny_config("--aug=ada", *arguments, iterations=iterations)
        settings = dict(kimg_per_tick=0.008, checkpoint_minutes=0.0, ada_kimg=1, augment_p=0.5)
        run_dir = tmp_path / name / "00000-demo-cars"
        return replace(config, run_dir=str(run_dir), **settings | changes)

    return build


@pytest.fixture
def begin(monkeypatch):
    """`begin(config, resume=None)`: what the command does, as in a process of its own;
    `iterations`: a signal comes during that one."""

    def run(config, resume=None, iterations=None):
        monkeypatch.setattr(training_stats, "_registry", training_stats._Registry())
        count = 0

        def update(*args):
            nonlocal count
            count += 1
            if count == iterations:
                os.kill(os.getpid(), signal.SIGTERM)
            return update_ema(*args)

        monkeypatch.setattr(loop, "update_ema", update)
        choice = runs.choose(config, resume)
        return launch(choice.config, choice.lock)

    return run


@pytest.fixture
def breaking(monkeypatch):
    """`breaking(call, action)`: calls `action` before the call number `call` of `run_phase`."""

    def arrange(call, action):
        calls = iter(range(1, 1000))

        def patched(*args):
            if next(calls) == call:
                action()
            return run_phase(*args)

        monkeypatch.setattr(loop, "run_phase", patched)

    return arrange


def crash():
    raise RuntimeError("crashed")


def final_state(config):
    return checkpoints.read_newest(config.run_dir).state


def assert_equal(a, b, path=""):
    """Bit by bit, but for what depends on the clock."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        a, b = (
            {k: v for k, v in d.items() if not str(k).startswith((*MACHINE, "elapsed", "sizes"))}
            for d in (a, b)
        )
        assert a.keys() == b.keys(), path
        for key in a:
            assert_equal(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f"{path}/{i}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), path
    else:
        assert a == b, path


def statistics(config):
    """The lines of training_stats.jsonl without what depends on the machine."""
    lines = (Path(config.run_dir) / "training_stats.jsonl").read_text().splitlines()
    return [
        {key: v for key, v in json.loads(line).items() if not key.startswith(MACHINE)}
        for line in lines
    ]


def snapshots(config):
    """Names of pictures and snapshots."""
    paths = Path(config.run_dir).iterdir()
    return sorted(p.name for p in paths if p.suffix in (".png", ".pkl"))


@pytest.fixture(scope="module")
def kept():
    """What tests of this file share."""
    return {}


@pytest.fixture
def unbroken(small, begin, kept):
    """A run that nothing ends, and its last checkpoint."""
    if not kept:
        config = small("unbroken")
        assert begin(config) is True
        kept.update(config=config, state=final_state(config))
    return kept["config"], kept["state"]


def assert_same_run(config, unbroken):
    other, state = unbroken
    assert_equal(final_state(config), state)
    assert statistics(config) == statistics(other)
    assert snapshots(config) == snapshots(other)
    for name in ("reals.png", "fakes000000.png"):
        assert (Path(config.run_dir) / name).read_bytes() == (
            Path(other.run_dir) / name
        ).read_bytes()


def test_a_crash_in_an_iteration_changes_nothing(small, begin, breaking, unbroken):
    state = unbroken[1]
    assert state["counters"]["nimg"] == 44 and float(state["parts"]["augment_pipe"]["p"]) != 0.5
    assert state["parts"]["G_opt"]["state"] and state["parts"]["statistics"]["totals"]
    config = small("broken")
    for call in (20, 9):  # Of 22 + 3 + 1 calls; the second process begins at iteration 8.
        breaking(call, crash)
        with pytest.raises(RuntimeError, match="crashed"):
            begin(config)
    log = (Path(config.run_dir) / "log.txt").read_text()
    assert "Traceback" in log and "Going on from" in log
    breaking(-1, crash)
    assert begin(config) is True
    assert_same_run(config, unbroken)
    assert len(list(Path(config.run_dir).glob("checkpoint-*"))) == 2
    assert runs.choose(config, None).lock is None  # It is finished: a new run.


def test_signals_at_any_moment_change_nothing(small, begin, unbroken):
    """One after every iteration, so also where a tick and where the run ends."""
    config = small("stopped", checkpoint_minutes=1000.0)
    for nimg in range(4, 44, 4):
        assert begin(config, iterations=1) is False
        (newest, *_) = checkpoints.list_checkpoints(config.run_dir)
        assert checkpoints.images_shown(newest) == nimg
    assert begin(config, iterations=1) is True  # Too late: that was the last one.
    assert_same_run(config, unbroken)
    log = (Path(config.run_dir) / "log.txt").read_text()
    assert log.count("Stopped by SIGTERM; the same command goes on from checkpoint-") == 10
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_resolution_that_fades(small, begin, monkeypatch):
    """Pictures of a tick that a signal postponed have the resolution of the iteration before."""
    save, sides = Sampler.save, {}

    def recording(self, G, run_dir, stem):
        sides.setdefault(Path(run_dir).parent.name, []).append(G.neural_rendering_resolution)
        return save(self, G, run_dir, stem)

    monkeypatch.setattr(Sampler, "save", recording)
    for name, stops in (("whole", [None]), ("parts", [3, 2, None])):
        config = small(name, "--neural_rendering_resolution_final=16", iterations=8)
        config.loss_kwargs["neural_rendering_resolution_fade_kimg"] = 0.03
        for stop in stops:
            begin(config, iterations=stop)
    assert sides == dict(whole=[8, 12, 15], parts=[8, 12, 15])  # After 1, 5 and 8 iterations.


def test_a_damaged_checkpoint_costs_a_tick_and_no_more(small, begin, breaking, unbroken, capsys):
    config = small("damaged")
    breaking(20, crash)
    with pytest.raises(RuntimeError):
        begin(config)
    newest, older = checkpoints.list_checkpoints(config.run_dir)
    newest.write_bytes(newest.read_bytes()[:1000])
    (Path(config.run_dir) / ".checkpoint-000000000040.1.part").touch()
    breaking(-1, crash)
    capsys.readouterr()
    assert begin(config)
    log = capsys.readouterr().out
    assert f"Warning: {newest} is damaged" in log and f"Going on from {older}" in log
    assert_same_run(config, unbroken)
    assert not newest.exists() and not list(Path(config.run_dir).glob(".*.part"))


def test_a_crash_before_the_first_checkpoint(small, begin, breaking, unbroken, capsys):
    config = small("early", checkpoint_minutes=1000.0)
    breaking(12, crash)
    with pytest.raises(RuntimeError):
        begin(config)
    assert len(statistics(config)) > 1
    breaking(-1, crash)
    assert begin(config)
    assert "has no checkpoint yet: it starts from its beginning" in capsys.readouterr().out
    assert_same_run(config, unbroken)


def test_processes_that_load_data(small, begin, unbroken):
    config = small("workers")
    config.data_loader_kwargs["num_workers"] = 1
    assert begin(config, iterations=6) is False and begin(config) is True
    assert_same_run(config, unbroken)


def test_a_finished_run_is_extended(small, begin):
    config = small("longer", iterations=6)
    assert begin(config)
    longer = replace(config, total_kimg=0.032, kimg_per_tick=0.012, image_grid=[3, 2])
    assert begin(longer, "latest")
    assert PIL.Image.open(Path(config.run_dir, "fakes000000.png")).size == (96, 64)
    assert final_state(config)["counters"]["nimg"] == 32
    assert [line["Progress/kimg"]["mean"] for line in statistics(config)] == [
        pytest.approx(kimg / 1000) for kimg in (4, 12, 20, 24, 32)
    ]
    recorded = json.loads((Path(config.run_dir) / "training_options.json").read_text())
    assert recorded["total_kimg"] == 0.032 and recorded["run_dir"] == config.run_dir
