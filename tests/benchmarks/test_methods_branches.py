"""Both branches of a model of Mimic3D have rows and figures of their own."""

import json

import pytest
import torch
from click.testing import CliRunner

from benchmarks import methods
from docs.figures import make_methods
from training.snapshots import save_snapshot

generator = pytest.importorskip("training.mimic3d.generator")

RENDERING = dict(
    superresolution_module="training.superresolution.SuperresolutionHybrid2X",
    superresolution_noise_mode="none",
    sr_antialias=True,
    c_gen_conditioning_zero=False,
    c_scale=1,
    clamp_mode="softplus",
    disparity_space_sampling=False,
    depth_resolution=4,
    depth_resolution_importance=4,
    ray_start=1.35,
    ray_end=2.65,
    box_warp=1,
    avg_camera_radius=2,
    avg_camera_pivot=[0, 0, 0],
)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    torch.manual_seed(0)
    G = generator.DualTriPlaneGenerator(
        z_dim=8,
        c_dim=25,
        w_dim=8,
        img_resolution=128,
        img_channels=3,
        mapping_kwargs=dict(num_layers=1),
        rendering_kwargs=dict(RENDERING),
        plane_resolution=16,
        channel_base=64,
        channel_max=8,
    )
    with torch.no_grad():
        G.decoder.net[2].bias[0] = 2  # dense enough to be seen
    path = tmp_path_factory.mktemp("mimic3d") / "network-snapshot-000001.pkl"
    save_snapshot(path, {}, G_ema=G.eval().requires_grad_(False))
    return path


def test_each_branch_has_its_row(snapshot, cars, tmp_path):
    sizes = ["--samples=4", "--subjects=1", f"--outdir={tmp_path}"]
    arguments = [f"--run=m={snapshot}", f"--data={cars}", *sizes]
    result = CliRunner().invoke(methods.main, arguments)
    assert result.exit_code == 0, result.output
    flat, full = json.loads((tmp_path / "methods.json").read_text())["methods"]
    assert (flat["method"], full["method"]) == ("m 2d", "m 3d")
    for name in ("psnr", "fd randconv112"):  # they do not show the same
        assert flat[name] != full[name]


def test_each_branch_has_its_strip(snapshot):
    model = make_methods.eg3d.load(snapshot, device="cpu")
    flat, full = (make_methods.epipolar(shown, 3, 2) for _, shown in methods.variants("m", model))
    assert flat.shape == full.shape == (2, 128, 3) and (flat != full).any()
