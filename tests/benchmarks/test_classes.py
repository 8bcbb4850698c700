"""Classes that are asked for beside real ones: what the measures give where the answer is known."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import eg3d
from benchmarks import classes
from dataset_preprocessing.procedural import make_dataset
from tests.tiny import tiny_generator
from training.dataset import ImageFolderDataset
from training.snapshots import save_snapshot


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "both.zip"
    make_dataset(path, num_images=60, resolution=32, category="all")
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "tiny.pkl"
    save_snapshot(path, {}, G=None, D=None, G_ema=tiny_generator(classes=2))
    return path


def test_real_pictures_are_of_their_own_class(both):
    """And those of the other one are far from them."""
    dataset = ImageFolderDataset(both, use_labels=True, use_classes=True)
    real = classes.real_features(dataset)
    assert [len(rows) for rows in real] == [30, 30]
    network = classes.RandomConvFeatures()
    assert torch.equal(real[1][2:3], network(torch.from_numpy(dataset[5][0])[None]))
    assert classes.shares(real, real) == [1.0, 1.0]
    assert classes.shares(real[::-1], real) == [0.0, 0.0]
    away = classes.distances(real, real)
    assert away[0][0] < 1e-3 < away[0][1] and away[1][1] < 1e-3 < away[1][0]


def test_shares_by_hand():
    real = [torch.tensor([[0.0, 0.0], [1.0, 30.0]]), torch.tensor([[10.0, 0.0]])]
    found = [torch.tensor([[1.0, 2.0], [9.0, 2.0]]), torch.tensor([[8.0, 0.0]] * 3)]
    assert classes.shares(found, real) == [0.5, 1.0]


def test_pictures_are_of_the_class_that_is_asked_for(both, network):
    dataset = ImageFolderDataset(both, use_labels=True, use_classes=True)
    model = eg3d.load(network, device="cpu")
    found = classes.generated_features(model, dataset, samples=3)
    pick = np.random.RandomState(0).randint(60, size=3)[2]
    camera = classes.Camera.from_label(torch.from_numpy(dataset.get_label(pick))[None])
    for index in range(2):
        ws = model.mapping(model.latents([2]), camera, classes=[index])
        image = (model.scenes_of(ws).render(camera).image * 127.5 + 128).clamp(0, 255)
        expected = classes.RandomConvFeatures()(image.to(torch.uint8))
        assert torch.allclose(found[index][2:], expected, atol=1e-3)


def test_command(both, network, cars, tmp_path):
    line = [f"--run=tiny={network}", f"--data={both}", "--samples=2", f"--outdir={tmp_path}"]
    result = CliRunner().invoke(classes.main, line)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "classes.json").read_text())["classes"]
    assert [(r["pictures"], r["class"]) for r in rows] == [
        *(("real", 0), ("real", 1)),
        *(("tiny", 0), ("tiny", 1)),
    ]
    plain = CliRunner().invoke(classes.main, [line[0], f"--data={cars}"])
    assert plain.exit_code == 1 and 'dataset.json has no "classes"' in plain.output
    other = tmp_path / "other.pkl"
    save_snapshot(other, {}, G=None, D=None, G_ema=tiny_generator(classes=3))
    result = CliRunner().invoke(classes.main, [f"--run=o={other}", f"--data={both}"])
    assert result.exit_code == 1 and "has 3 classes" in result.output and "has 2;" in result.output
