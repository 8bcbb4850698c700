"""Published files: stand-ins in their layout give the recorded pictures and logits, and come back
from the plain format as they were."""

import io
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import eg3d
from dnnlib.util import EasyDict
from tests.published import StandIn, published_bytes
from tests.recorded_draws import recorded_draws
from training.epigraf.cameras import label_from_angles
from training.epigraf.discriminator import PatchDiscriminator
from training.epigraf.generator import EpigrafGenerator
from training.network_files import NetworkFileError, read_networks

CAMERA = dict(fov=12, ray_start=0.88, ray_end=1.12, radius=1.0, cube_scale=0.2)
BACKGROUND = dict(cbase=32768, cmax=128, num_blocks=2, posenc_period_len=64, num_steps=6, start=1.0)
NETWORKS = {
    "generator": dict(type=None),
    "generator_bg_plane": dict(type="plane"),
    "generator_bg_sphere": dict(type="sphere", cbase=96, cmax=20),
}
TOLERANCE = {"generator_bg_sphere": 5e-5}


def generator_cfg(background, **options):
    own = dict(
        fmaps=1.0,
        cbase=128,
        cmax=16,
        map_depth=2,
        backbone="stylegan2",
        camera_cond=background["type"] == "sphere",
        num_ray_steps=8,
        clamp_mode="softplus",
        density_shift=0.0,
        tri_plane=dict(res=16, feat_dim=32, fp32=True, mlp=dict(n_layers=2, hid_dim=64)),
        bg_model={**BACKGROUND, **background, "fmm": dict(enabled=False)},
    )
    camera = {**CAMERA, "white_back": False, "last_back": False}
    return {**own, "dataset": {"camera": camera}, **options}


def generator_file(name, conformance, state_of, cfg=None):
    """Bytes of a snapshot that has G_ema alone, and the recorded numbers."""
    data = conformance(f"epigraf/{name}")
    cfg = cfg or generator_cfg(NETWORKS[name])
    classes = 3 if name == "generator_bg_sphere" else 0
    sizes = dict(z_dim=32, c_dim=classes, w_dim=32, img_resolution=64, img_channels=3)
    network = StandIn("Generator", state_of(data), dict(cfg=cfg, **sizes), dict(num_ws=6))
    stats = dict(cur_nimg=5, best_metric_value=math.inf)
    optimizer = dict(state={0: dict(step=1, exp_avg=torch.zeros(2))}, param_groups=[dict(lr=0.1)])
    entries = dict(G=None, G_ema=network, G_opt=optimizer, stats=stats, training_set_kwargs=None)
    entries |= dict(vis=EasyDict(grid_size=(3, 2), images=np.ones([2, 3], np.float32)))
    return published_bytes(entries), data


@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_are_the_recorded_ones(name, conformance, state_of, assert_scaled, monkeypatch):
    file, data = generator_file(name, conformance, state_of)
    G = eg3d.load(io.BytesIO(file), device="cpu").generator
    assert type(G) is EpigrafGenerator and not G.training
    c = label_from_angles(data.get("angles_cond", data["angles"]), 1.0, 12.0)
    c = torch.cat([c, data["c"]], dim=1) if "c" in data else c
    with recorded_draws(monkeypatch), torch.no_grad():
        ws = G.mapping(data["z"], c)
        assert_scaled(ws, data["ws"])
        shown = label_from_angles(data["angles"], 1.0, 12.0)
        pictures = G.synthesis(data["ws"], shown, noise_mode="const")
    assert_scaled(pictures["image"], data["image"], TOLERANCE.get(name, 1e-5))
    assert_scaled(pictures["image_depth"], data["depth"], TOLERANCE.get(name, 1e-5))
    assert G.rendering_kwargs["avg_camera_focal"] == pytest.approx(4.757182)
    assert G.init_kwargs["conv_clamp"] == 256


def test_a_class_is_named_by_number_where_labels_have_none(conformance, state_of, assert_scaled):
    file, data = generator_file("generator_bg_sphere", conformance, state_of)
    G = read_networks(io.BytesIO(file)).build("G_ema")
    c = label_from_angles(data["angles"], 1.0, 12.0)
    G.rendering_kwargs["class_index"] = 2
    chosen = torch.eye(3)[[2, 2]]
    assert_scaled(G.mapping(data["z"], c), G.mapping(data["z"], torch.cat([c, chosen], dim=1)))
    G.rendering_kwargs["class_index"] = 0
    assert not torch.equal(G.mapping(data["z"], c), G.mapping(data["z"], torch.cat([c, chosen], 1)))


@pytest.mark.parametrize("whole", [False, True])
def test_the_configuration_lies_deeper_or_not(whole, conformance, state_of):
    """The network's own part of a configuration, or all of it: the same network."""
    own = generator_cfg(NETWORKS["generator"])
    camera = own.pop("dataset")["camera"]
    ray = dict(start=camera.pop("ray_start"), end=camera.pop("ray_end"))
    judge = dict(fmaps=0.5, cbase=1, camera_cond=True)
    cfg = dict(
        dataset=dict(camera={**camera, "ray": ray}), model=dict(generator=own, discriminator=judge)
    )
    file, data = generator_file("generator", conformance, state_of, cfg if whole else None)
    kwargs = read_networks(io.BytesIO(file)).record("G_ema").init_kwargs
    assert kwargs["channel_base"] == 128 and not kwargs["mapping_kwargs"]["camera_cond"]
    assert kwargs["rendering_kwargs"]["ray_end"] == 1.12


def test_options_of_the_configuration_arrive(conformance, state_of):
    cfg = generator_cfg(
        NETWORKS["generator"], clamp_mode="relu", density_shift=-2, num_ray_steps=5, fmaps=1.0
    )
    cfg["dataset"]["camera"] |= dict(white_back=True, last_back=True, radius=2.0)
    file, _ = generator_file("generator", conformance, state_of, cfg)
    options = read_networks(io.BytesIO(file)).build("G_ema").rendering_kwargs
    expected = dict(
        clamp_mode="relu",
        density_bias=-2,
        depth_resolution=5,
        depth_resolution_importance=5,
        white_back=True,
        last_back=True,
        avg_camera_radius=2,
        box_warp=0.4,
        last_delta=1e10,
    )
    assert {name: options[name] for name in expected} == expected


def test_the_plain_format_keeps_it(conformance, state_of, tmp_path):
    file, _ = generator_file("generator_bg_plane", conformance, state_of)
    source, target = tmp_path / "theirs.pkl", tmp_path / "ours.safetensors"
    source.write_bytes(file)
    command = [sys.executable, "-m", "eg3d", "convert", str(source), str(target)]
    root = Path(eg3d.__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    one, other = (read_networks(path).build("G_ema") for path in (source, target))
    assert type(other) is EpigrafGenerator and other.rendering_kwargs == one.rendering_kwargs
    twin = other.state_dict()
    assert all(torch.equal(tensor, twin[name]) for name, tensor in one.state_dict().items())


def test_logits_are_the_recorded_ones(conformance, state_of, assert_scaled):
    data = conformance("epigraf/discriminator")
    own = dict(fmaps=0.5, cbase=1024, cmax=16, num_additional_start_blocks=2, mbstd_group_size=4)
    cfg = EasyDict(own, camera_cond=True, camera_cond_drop_p=0.5, hyper_mod=True)
    sizes = dict(c_dim=3, img_resolution=16, img_channels=3)
    network = StandIn("Discriminator", state_of(data), dict(cfg=cfg, **sizes), {})
    file = published_bytes(dict(G=None, D=network, G_ema=None))
    D = read_networks(io.BytesIO(file)).build("D")
    assert type(D) is PatchDiscriminator
    place = {name: data[name] for name in ("c", "angles", "scales", "offsets")}
    assert_scaled(D({"image": data["x"]}, **place), data["logits"].unsqueeze(1))
    assert D.head_mapping.camera_cond_drop_p == 0.5


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(backbone="stylegan3-r"), "backbone is 'stylegan3-r'"),
        (dict(dataset={"camera": {**CAMERA, "ray_end": "far"}}), "no number ray_end"),
        (dict(cbase=2**40), "is 1099511627776: at most"),
    ],
)
def test_what_cannot_be_imported_is_one_line(change, words, conformance, state_of):
    cfg = generator_cfg(NETWORKS["generator"], **change)
    file, _ = generator_file("generator", conformance, state_of, cfg)
    with pytest.raises(NetworkFileError, match=words) as found:
        read_networks(io.BytesIO(file)).build("G_ema")
    assert "\n" not in str(found.value)


def test_a_network_of_another_shape_is_one_line(conformance, state_of):
    state = state_of(conformance("epigraf/generator"))
    sizes = dict(z_dim=32, c_dim=0, w_dim=32, img_resolution=64, img_channels=3)
    file = published_bytes(dict(G_ema=StandIn("Generator", state, dict(sizes, cfg=7), {})))
    with pytest.raises(NetworkFileError, match="has no configuration"):
        read_networks(io.BytesIO(file))
    state = dict(state, **{"mapping.mean_camera_pose": torch.zeros(5)})
    kwargs = dict(sizes, cfg=generator_cfg(NETWORKS["generator"]))
    file = published_bytes(dict(G_ema=StandIn("Generator", state, kwargs, {})))
    with pytest.raises(NetworkFileError, match=r"has the shape \[5\], not \[3\]"):
        read_networks(io.BytesIO(file))
    file = published_bytes(dict(G_ema=StandIn("Generator", state, dict(cfg={}), {})))
    with pytest.raises(NetworkFileError, match="has no argument z_dim"):
        read_networks(io.BytesIO(file))
