"""The distance of a generator's pictures: against its definition, alike for any processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from metrics import randconv_distance
from metrics.frechet import frechet_distance
from metrics.metric_main import calc_metric
from metrics.options import MetricOptions
from metrics.randconv_distance import distance_to_real_pictures
from metrics.random_features import RandomConvFeatures
from tests.tiny import tiny_generator
from training.dataset import ImageFolderDataset
from training.volumetric_rendering.draws import FixedDraws

ROOT = Path(__file__).parent.parent.parent


def options(cars, G=None, **more):
    return MetricOptions(G=G or tiny_generator(), dataset_kwargs=cars, **more)


def test_distance_is_what_its_definition_says(cars):
    """All pictures at once, whatever the batches."""
    G, dataset = tiny_generator(), ImageFolderDataset(cars["path"], use_labels=True)
    features = RandomConvFeatures()
    reals = torch.from_numpy(np.stack([image for image, _ in dataset]))
    z = torch.randn([21, 8], generator=torch.Generator().manual_seed(0))
    picks = np.random.RandomState(0).randint(70, size=21)
    c = torch.from_numpy(np.stack([dataset.get_label(i) for i in picks]))
    image = G(z, c, noise_mode="const", draws=FixedDraws())["image"]
    fakes = (image * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    expected = frechet_distance(features.statistics([fakes]), features.statistics([reals]))
    found = distance_to_real_pictures(options(cars, G), num_fakes=21)
    assert found == pytest.approx(expected, rel=1e-4)


def test_distance_repeats(cars):
    """Whatever happened to the random states, in training mode too; also with random noise."""
    G = tiny_generator()
    G.rendering_kwargs["superresolution_noise_mode"] = "random"
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        found.append(distance_to_real_pictures(options(cars, G), num_fakes=12))
    assert found[0] == found[1]
    assert distance_to_real_pictures(options(cars, tiny_generator(1)), 12) != found[0]


def test_arguments_of_the_generator_count(cars):
    plain, truncated = (
        distance_to_real_pictures(options(cars, G_kwargs=kwargs), num_fakes=9)
        for kwargs in ({}, dict(truncation_psi=0.2))
    )
    assert plain != truncated


def test_real_pictures_are_read_once(cars, monkeypatch):
    opts = options(cars)
    first = distance_to_real_pictures(opts, num_fakes=9)
    monkeypatch.setattr(randconv_distance, "_measure_reals", None)
    assert distance_to_real_pictures(opts, num_fakes=9) == first


def test_mirroring_and_size_of_training_do_not_matter(cars):
    """As published scores are: against the pictures themselves, all of them."""
    plain = distance_to_real_pictures(options(cars), num_fakes=9)
    other = options(dict(cars, xflip=True, max_size=5, random_seed=3, resolution=32))
    assert distance_to_real_pictures(other, num_fakes=9) == plain


def test_large_datasets_are_read_in_part(cars, monkeypatch):
    whole = distance_to_real_pictures(options(cars), num_fakes=9)
    monkeypatch.setattr(randconv_distance, "MOST_REALS", 30)
    assert distance_to_real_pictures(options(cars), num_fakes=9) != whole


def test_the_metric_takes_2000_pictures(cars, monkeypatch):
    asked = []

    def measure(options, num_fakes):
        asked.append(num_fakes)
        return 1.5

    monkeypatch.setattr("metrics.metric_main.distance_to_real_pictures", measure)
    found = calc_metric("fd2k_randconv112", G=tiny_generator(), dataset_kwargs=cars)
    assert found.results == {"fd2k_randconv112": 1.5} and asked == [2000]


# -- Two processes --------------------------------------------------------------------------------

# argv: rank, file to meet at, JSON of dataset_kwargs, run directory.
PROCESS = """
import json, sys
import torch
from metrics.in_training import RunMetrics
from metrics.metric_main import register_metric
from metrics.processes import in_all_processes
from metrics.randconv_distance import distance_to_real_pictures
from tests.tiny import tiny_generator

rank = int(sys.argv[1])
torch.set_num_threads(1)
torch.distributed.init_process_group(
    "gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2
)

@register_metric
def distance(options):
    return {"distance": distance_to_real_pictures(options, num_fakes=37)}

@register_metric
def broken(options):
    def compute():
        if options.rank == 1:
            raise ValueError("no room")
    in_all_processes(compute, options.num_gpus)
    return {}

names = ["fid50k_full", "broken", "distance"]
metrics = RunMetrics(names, json.loads(sys.argv[3]), sys.argv[4], rank, 2)
found = [metrics.evaluate(tiny_generator(), f"network-snapshot-{i}.pkl") for i in range(2)]
print(json.dumps(found))
torch.distributed.destroy_process_group()
"""


def test_two_processes_find_what_one_finds(cars, tmp_path):
    """The same value in both, also after a metric that failed in one of them; rank 0 writes."""
    run_dir, meeting = tmp_path / "run", str(tmp_path / "meeting")
    run_dir.mkdir()
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), meeting, json.dumps(cars), str(run_dir)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    values = [json.loads(out.splitlines()[-1]) for out, _ in outputs]
    assert values[0] == values[1] and values[0][0] == values[0][1]
    alone = distance_to_real_pictures(options(cars), num_fakes=37)
    assert values[0][0] == {"distance": pytest.approx(alone, rel=1e-6)}

    warnings = [line for line in outputs[0][1].splitlines() if line.startswith("Warning: ")]
    assert len([line for line in warnings if "fid50k_full is not built yet" in line]) == 1
    assert len([line for line in warnings if "in process 1: ValueError: no room" in line]) == 2
    assert len(warnings) == 3 and "Warning" not in outputs[1][1]
    assert [path.name for path in run_dir.iterdir()] == ["metric-distance.jsonl"]
    lines = [json.loads(t) for t in (run_dir / "metric-distance.jsonl").read_text().splitlines()]
    assert [line["snapshot_pkl"] for line in lines] == [f"network-snapshot-{i}.pkl" for i in (0, 1)]
    assert [line["num_gpus"] for line in lines] == [2, 2]
