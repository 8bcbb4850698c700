"""A run small enough for tests: a few procedural cars of 32 pixels, tiny networks."""

import json
from dataclasses import replace

import pytest
import torch

import train
from training import config as configuration
from training.dataset import ImageFolderDataset


@pytest.fixture
def one_thread():
    """Sums in one order, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_tiny_config(cars):
    """`make_tiny_config(run_dir, '--option=value', ..., iterations=2)` -> the TrainingConfig of
    that command, with an even smaller model."""

    def build(run_dir, *arguments, iterations=2):
        fixed = [
            f"--data={cars}",
            f"--outdir={run_dir.parent}",
            "--cfg=demo",
            "--batch=4",
            "--mbstd-group=4",
        ]
        sizes = ["--cbase=64", "--cmax=8", "--neural_rendering_resolution_initial=8"]
        context = train.main.make_context("train", [*fixed, *sizes, *arguments])
        given = {
            name
            for name in context.params
            if context.get_parameter_source(name).name == "COMMANDLINE"
        }
        opts = configuration.with_preset(context.params, given)
        data = ImageFolderDataset(path=opts.data, use_labels=True)
        config = configuration.build_config(opts, data)
        config.G_kwargs["plane_resolution"] = 8
        config.G_kwargs["rendering_kwargs"].update(
            depth_resolution=4, depth_resolution_importance=4
        )
        config.G_kwargs["sr_kwargs"]["widths"] = [8, 8]
        config.data_loader_kwargs["num_workers"] = 0
        assert json.dumps(vars(config))
        return replace(
            config,
            run_dir=str(run_dir),
            total_kimg=iterations * config.batch_size / 1000,
            image_grid=[2, 2],
        )

    return build


@pytest.fixture
def tiny_config(make_tiny_config, tmp_path):
    """As `make_tiny_config`, in a new run directory of the test."""

    def build(*arguments, iterations=2):
        run_dir = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        run_dir.mkdir()
        return make_tiny_config(run_dir, *arguments, iterations=iterations)

    return build
