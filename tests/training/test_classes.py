"""Class-conditional training, with every method: labels of cameras and classes, what the networks
make of them, and a training from the data set to the snapshot."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train
from tests.classes import make_classes
from tests.tiny_runs import CLASSES
from training import config as configuration
from training import methods, setup
from training.aware3d import aware3d_resolutions
from training.dataset import ImageFolderDataset
from training.micro_batches import seed_everything
from training.training_loop import training_loop

pytestmark = pytest.mark.usefixtures("one_thread")

LINES = {
    "eg3d": ["--gen_pose_cond=True", "--disc_c_noise=1"],
    "epigraf": ["--patch_resolution=8", "--gen_pose_cond=True", "--camera_dist=uniform"],
    "mimic3d": ["--stage=2", "--lpips=none"],
}
SMALL = dict(plane_resolution=8, z_dim=16, w_dim=16)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_classes(tmp_path_factory.mktemp("classes") / "cars.zip")


@pytest.fixture(params=[name for name in LINES if name in methods.all_methods()])
def config(request, data, tmp_path):
    """The configuration of two iterations of a method, with small networks."""
    line = [f"--data={data}", f"--outdir={tmp_path}", f"--method={request.param}", "--cfg=demo"]
    line += ["--cond_classes=True", "--batch=4", "--mbstd-group=4", "--cbase=64", "--cmax=8"]
    line += ["--neural_rendering_resolution_initial=16", *LINES[request.param]]
    context = train.main.make_context("train", line)
    given = {n for n in context.params if context.get_parameter_source(n).name == "COMMANDLINE"}
    opts = configuration.with_preset(context.params, given)
    training_set = ImageFolderDataset(data, use_labels=True, use_classes=True)
    config = configuration.build_config(opts, training_set)
    G_kwargs = dict(config.G_kwargs, **SMALL)
    if "aware3d_res" in G_kwargs:
        G_kwargs["aware3d_res"] = aware3d_resolutions(SMALL["plane_resolution"])
    if "sr_kwargs" in G_kwargs:
        G_kwargs["sr_kwargs"] = dict(G_kwargs["sr_kwargs"], widths=[8, 8])
    few = dict(depth_resolution=4, depth_resolution_importance=4)
    G_kwargs["rendering_kwargs"] = dict(G_kwargs["rendering_kwargs"], **few)
    return replace(
        config,
        run_dir=str(tmp_path),
        G_kwargs=G_kwargs,
        data_loader_kwargs=dict(config.data_loader_kwargs, num_workers=0),
        total_kimg=2 * config.batch_size / 1000,
        image_grid=[2, CLASSES],
    )


def classes_of(c):
    return c[:, 25:].argmax(1).tolist()


@torch.no_grad()
def test_networks_are_told_class_and_camera_of_each_picture(config):
    """Another class of one picture, or another camera, changes what is made of this picture, and
    nothing of the others."""
    training_set = ImageFolderDataset(**_without_class_name(config.training_set_kwargs))
    torch.manual_seed(0)
    networks = setup.build_networks(config, training_set, torch.device("cpu"))
    G, D = (networks[name].eval() for name in ("G", "D"))
    loss = setup.make_loss(config, networks)
    assert (G.c_dim, G.class_dim) == (25 + CLASSES, CLASSES)

    c = torch.from_numpy(training_set.all_labels()[:4]).clone()
    other_class, other_camera = c.clone(), c.clone()
    other_class[0, 25:] = c[0, 25:].roll(1)
    other_camera[0, :25] = c[1, :25]
    z = torch.randn(4, G.z_dim)
    pictures = dict(image=torch.rand(4, 3, 32, 32) * 2 - 1, image_raw=torch.rand(4, 3, 16, 16))

    def logits(c):
        torch.manual_seed(0)  # of noise on cameras
        return D(*loss.example(pictures, c))

    ws, judged = G.mapping(z, c), logits(c)
    for changed in (other_class, other_camera):
        moved = (G.mapping(z, changed) != ws).flatten(1).any(1)
        assert moved.tolist() == [True, False, False, False]
    assert logits(other_class)[0] != judged[0]
    assert torch.equal(logits(other_class)[1:], judged[1:])
    # Pictures are rendered from cameras alone.
    shown = [G.synthesis(ws, label, noise_mode="none")["image"].shape for label in (c, c[:, :25])]
    assert shown[0] == shown[1]
    # Without a class the usual one is meant.
    G.rendering_kwargs["class_index"] = 2
    third = torch.cat([c[:, :25], torch.eye(CLASSES)[[2] * 4]], dim=1)
    assert torch.equal(G.mapping(z, c[:, :25]), G.mapping(z, third))


def _without_class_name(kwargs):
    return {name: value for name, value in kwargs.items() if name != "class_name"}


def test_a_training_from_data_to_snapshot(config):
    """Sample pictures have a class a row; the mean of w is of real classes; both networks learn
    what classes are: their columns of the first layer move."""
    assert training_loop(config)
    run_dir = Path(config.run_dir)
    with open(sorted(run_dir.glob("network-snapshot-*.pkl"))[-1], "rb") as file:
        snapshot = pickle.load(file)
    assert snapshot["training_set_kwargs"]["use_classes"] is True
    first = _networks_before(config)
    for name in ("G", "D"):
        before, after = (dict(n[name].named_parameters()) for n in (first, snapshot))
        embeddings = [key for key in after if key.endswith("mapping.embed.weight")]
        told = [k for k in embeddings if not torch.equal(_classes(before[k]), _classes(after[k]))]
        assert told, embeddings
    assert snapshot["G_ema"].dataset_label_std.shape == (25 + CLASSES,)


def _classes(weight):
    """The columns that classes meet: behind the camera's 25, or the first ones, of EpiGRAF."""
    return weight[:, 25:] if weight.shape[1] == 25 + CLASSES else weight[:, :CLASSES]


def _networks_before(config):
    seed_everything(config.random_seed)
    training_set = ImageFolderDataset(**_without_class_name(config.training_set_kwargs))
    return setup.build_networks(config, training_set, torch.device("cpu"))


def test_rows_of_sample_pictures_are_classes(config):
    training_set = ImageFolderDataset(**_without_class_name(config.training_set_kwargs))
    sampler, _ = setup.make_sampler(config, training_set, torch.device("cpu"))
    rows = torch.tensor(classes_of(sampler.c)).view(CLASSES, 2)
    assert (rows == rows[:, :1]).all() and sorted(rows[:, 0].tolist()) == list(range(CLASSES))
