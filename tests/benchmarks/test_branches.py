"""The parts of a picture by either branch: that they are those of the generator's own pictures."""

import json

import pytest
import torch
from click.testing import CliRunner

from training.triplane import TriPlaneGenerator
from training.volumetric_rendering.draws import FixedDraws

pytest.importorskip("training.mimic3d")
branches = pytest.importorskip("benchmarks.branches")

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
    ray_start=2.25,
    ray_end=3.3,
    box_warp=1,
)


def tiny(kind):
    torch.manual_seed(0)
    generator = kind(
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
    return generator.eval().requires_grad_(False)


def eg3d():
    return tiny(TriPlaneGenerator)


def mimic3d():
    return tiny(branches.DualTriPlaneGenerator)


def showing(generator, branch):
    return branches.Model.of(generator).showing(branch=branch).generator


@torch.no_grad()
def test_pictures_are_the_generators_own():
    G, c = mimic3d(), branches.face_camera()
    for branch, side in (("2d", 64), ("3d", 128)):
        torch.manual_seed(1)
        functions = branches.parts(showing(G, branch), branch, chunk=1000)
        torch.manual_seed(1)
        ws = G.mapping(torch.randn(1, G.z_dim), c)
        coarse = ("3d", "2d").index(branch)
        own = G.synthesis(ws, c, draws=FixedDraws(), noise_mode="const", coarse=coarse)
        picture = functions[f"{branch}, {side}: picture"]()
        assert torch.allclose(picture, own["image"], atol=1e-5)
        features, _, _ = functions[f"{branch}, {side}: renderer"]()
        as_image = features[0].T.reshape(32, side, side)
        assert torch.allclose(as_image, own["image_features"][0], atol=1e-5)
        assert (f"{branch}, {side}: super-resolution" in functions) == (branch == "2d")


def test_memory_is_that_of_tensors_at_once():
    def work():
        a = torch.ones(1_000_000)
        b = a * 2
        del a
        return b + 1

    assert branches.megabytes(work) == 8


@torch.no_grad()
def test_smaller_chunks_take_less():
    G = showing(mimic3d(), "3d")
    sizes = []
    for chunk in (1024, 128**2):
        part = branches.parts(G, "3d", chunk)["3d, 128: renderer"]
        sizes.append(branches.megabytes(part))
    assert sizes[0] < sizes[1]


def test_the_command_has_all_parts(monkeypatch, tmp_path):
    monkeypatch.setattr(branches, "faces_512", eg3d)
    monkeypatch.setattr(branches, "both_branches_512", mimic3d)
    path = tmp_path / "branches.json"
    result = CliRunner().invoke(branches.main, [f"--json={path}"])
    assert result.exit_code == 0, result.output
    rows = {row["part"]: row for row in json.loads(path.read_text())["rows"]}
    assert len(rows) == 4 + 4 + 3 and "Mimic3D 3d, 128: renderer" in rows
    assert all(row["seconds"] > 0 for row in rows.values())
    for name in ("EG3D, 64", "Mimic3D 2d, 64", "Mimic3D 3d, 128"):
        assert rows[f"{name}: picture"]["MB"] >= rows[f"{name}: planes"]["MB"]


@torch.no_grad()
def test_planes_of_the_2d_branch_take_less():
    G = mimic3d()
    flat, full = (
        branches.megabytes(branches.parts(showing(G, b), b, 1000)[f"{b}, {side}: planes"])
        for b, side in (("2d", 64), ("3d", 128))
    )
    assert flat < full
