"""The parts of an iteration: how seconds are attributed, and that the work is the loop's."""

import functools
import itertools
import json
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from benchmarks import iteration
from benchmarks.iteration import NETWORKS, Iterations, Parts, config_of, main, measure, summary
from dataset_preprocessing.procedural import make_dataset
from training import training_loop as loop
from training.dataset import ImageFolderDataset
from training.image_source import make_source
from training.micro_batches import seed_everything
from training.world import ALONE

CPU = torch.device("cpu")
TINY = ["--cfg=demo", "--batch=4", "--mbstd-group=2", "--batch-gpu=2", "--cbase=64", "--cmax=8"]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """Options of train.py for a run over 8 cars of 32 pixels by the smallest networks."""
    path = tmp_path_factory.mktemp("data") / "cars.zip"
    make_dataset(path, num_images=8, resolution=32, seed=0)
    return [*TINY, f"--data={path}", "--neural_rendering_resolution_initial=8", "--cache=ram"]


@pytest.fixture
def clock(monkeypatch):
    """`clock(seconds)` lets time pass for `Parts`."""
    now = [100.0]
    monkeypatch.setattr(iteration.time, "perf_counter", lambda: now[0])

    def sleep(seconds):
        now[0] += seconds

    return sleep


def test_a_part_inside_another_counts_for_itself(clock):
    parts = Parts(CPU)
    clock(1)
    with parts.part("outer"):
        clock(2)
        with parts.part("inner"):
            clock(4)
        clock(8)
    parts.weight = 0.5
    clock(16)
    with parts.part("outer"):
        clock(32)
    assert parts.seconds == {"outer": 2 + 8 + 16, "inner": 4}


def test_making_items_and_calls_count_and_what_is_done_with_them_does_not(clock):
    parts = Parts(CPU)

    def items():
        for k in range(3):
            clock(1)
            yield k

    double = parts.counted("call", lambda k: clock(10) or 2 * k)
    for k in parts.each("items", items()):
        clock(100)
        assert double(k) == 2 * k
    assert parts.seconds == {"items": 3, "call": 30}


def test_a_part_that_fails_is_left(clock):
    parts = Parts(CPU)
    with pytest.raises(KeyError), parts.part("a"):
        clock(1)
        raise KeyError
    clock(2)
    with parts.part("b"):
        clock(4)
    assert parts.seconds == {"a": 1, "b": 4}


def test_the_share_outside_the_networks():
    seconds = [
        {"Gmain forward": f, "Gmain backward": 0.003, "data": 0.001} for f in (0.1, 0.004, 0.004)
    ]
    rows, outside = summary(seconds)
    assert outside == pytest.approx(1 / 8)
    by_name = {row["part"]: row for row in rows}
    assert by_name["Gmain forward"]["median"] == pytest.approx(4)
    assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_an_iteration_is_one_of_the_training_loop(arguments, tmp_path, monkeypatch):
    config = config_of(arguments)
    config = replace(config, G_reg_interval=1, D_reg_interval=1)  # as here all phases take turns
    config = replace(config, run_dir=str(tmp_path), total_kimg=0.008, image_grid=[2, 2])
    found = {}
    monkeypatch.setattr(
        loop, "save_snapshot", lambda *a, G, D, G_ema, **k: found.update(G_ema=G_ema, D=D)
    )
    assert loop.training_loop(config)

    seed_everything(config.random_seed)
    data = ImageFolderDataset(
        **{k: v for k, v in config.training_set_kwargs.items() if k != "class_name"}
    )
    with closing(make_source(data, CPU, workers=0)) as source:
        work = Iterations(config, ALONE, source, data)
        for _ in range(2):
            work.run(Parts(CPU))
    for name, network in found.items():
        ours = work.networks[name].state_dict()
        for key, expected in network.state_dict().items():
            torch.testing.assert_close(ours[key], expected, rtol=1e-5, atol=1e-6, msg=key)


def test_every_part_is_there_and_phases_count_by_their_interval(arguments, monkeypatch):
    config = config_of([*arguments, "--aug=ada"])
    seconds = {}
    for interval in (1, 16):
        tick = functools.partial(next, itertools.count())  # one second whenever it is asked
        monkeypatch.setattr(iteration.time, "perf_counter", tick)
        (seconds[interval],) = measure(replace(config, D_reg_interval=interval), 1, warmup=1)
    monkeypatch.undo()
    parts = {f"{p} {way}" for p in ("Gmain", "Greg", "Dmain", "Dreg") for way in NETWORKS}
    parts |= {"data", "gradients and optimizers", "average of weights", "statistics"}
    assert set(seconds[1]) == set(seconds[16]) == parts
    for part in parts:
        ratio = 16 if part.startswith("Dreg") else 1
        if part.startswith(("G", "D", "average")):
            assert seconds[1][part] == ratio * seconds[16][part] > 0


def test_the_command_writes_a_table_and_a_file(arguments, tmp_path):
    file = tmp_path / "out" / "iteration.json"
    result = CliRunner().invoke(
        main, [*arguments, "--iterations=2", "--warmup=1", f"--json={file}"]
    )
    assert result.exit_code == 0, result.output
    assert "| Gmain forward |" in result.output and "outside the networks: " in result.output
    contents = json.loads(file.read_text())
    assert len(contents["seconds"]) == 2 and 0 < contents["outside"] < 1
    wrong = CliRunner().invoke(main, ["--cfg=demo", "--data=nowhere.zip"])
    assert wrong.exit_code == 1 and "nowhere.zip: no such file" in wrong.output
