"""The viewer's state: JSON both ways, and what it refuses."""

import json
from dataclasses import fields

import pytest

from eg3d.errors import InputError
from eg3d.viewer.state import ViewState

POSE = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 2.7, 0.0, 0.0, 0.0, 1.0)
LABEL = (*POSE, 4.0, 0.0, 0.5, 0.0, 4.0, 0.5, 0.0, 0.0, 1.0)

# A value of every setting that is not its default.
OTHER = dict(
    network="a.pkl",
    weights="G",
    follow=True,
    seed=7,
    dx=0.5,
    dy=-1.25,
    blend_seed=9,
    blend=0.25,
    mix_seed=3,
    mix_layers=(1, 4),
    psi=-0.5,
    cutoff=3,
    noise="random",
    noise_seed=5,
    conditioning="free",
    cond_yaw=0.3,
    cond_pitch=-0.2,
    camera=POSE,
    target=(0.0, 0.1, 0.2),
    up="z",
    fov=30.0,
    view="depth",
    chosen=(("branch", "3d"),),
    resolution=32,
    coarse=2.0,
    fine=0.5,
    cache_planes=False,
    full_precision=True,
    compare="seed",
    compare_seed=11,
    compare_network="b.pkl",
    compare_chosen=(("branch", "2d"), ("layers", "all")),
    layer="superresolution",
    layer_grey=True,
    layer_channel=2,
    layer_normalize=True,
    layer_gain=6.0,
    fft=True,
    fft_all=False,
    fft_range=20.0,
    fft_beta=4.0,
    keyframes=(LABEL, LABEL),
    path="keyframes",
    frames=10,
    fps=12.0,
    most_fps=24.0,
)


def test_every_setting_survives_json():
    state = ViewState(**OTHER)
    default = ViewState()
    assert all(getattr(state, f.name) != getattr(default, f.name) for f in fields(ViewState))
    assert ViewState.from_json(state.to_json()) == state
    assert ViewState.from_json(default.to_json()) == default
    assert ViewState.from_json('{"version": 1, "seed": 4}') == ViewState(seed=4)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(seed=-1), "seed is -1"),
        (dict(seed=2**32), "seed is 4294967296"),
        (dict(seed=1.5), "seed is 1.5: must be a whole number"),
        (dict(seed=True), "seed is True"),
        (dict(seed=None), "seed is None"),
        (dict(psi=float("nan")), "psi is nan"),
        (dict(psi="x"), "psi is 'x'"),
        (dict(blend=1.01), "blend is 1.01: must be 0 to 1"),
        (dict(mix_layers=(0, -1)), "mix_layers is -1"),
        (dict(mix_layers=[0]), "mix_layers is"),
        (dict(noise="loud"), "noise is 'loud': must be one of const, none, random"),
        (dict(noise=["const"]), "noise is"),
        (dict(chosen=("branch", "3d")), "chosen is ('branch', '3d'): must be pairs of texts"),
        (dict(chosen=(("branch", 3),)), "chosen is"),
        (dict(network=None), "network is None: must be a text"),
        (dict(follow="yes"), "follow is 'yes': must be true or false"),
        (dict(fov=0.0), "fov is 0.0"),
        (dict(target=(0.0, 1.0)), "target is (0.0, 1.0): must be 3 numbers"),
        (dict(camera=POSE[:15]), "must be the 16 numbers"),
        (dict(camera=(2.0, *POSE[1:])), "camera: rotation"),
        (dict(camera=("x", *POSE[1:])), "camera: camera label must be 25 numbers"),
        (dict(keyframes=((1.0,) * 25,)), "keyframes: last row"),
        (dict(keyframes=(3,)), "keyframes:"),
        (dict(keyframes=3), "keyframes must be a list"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(change, words):
    with pytest.raises(InputError) as caught:
        ViewState(**change)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        ("[1]", '"version": 1'),
        ('{"seed": 4}', '"version": 1'),
        (json.dumps({"version": 1, "sed": 4}), "no setting 'sed'"),
        (json.dumps({"version": 1, "seed": "4"}), "seed is '4'"),
    ],
)
def test_what_is_no_session_is_refused(text, words):
    with pytest.raises(InputError, match="session|seed") as caught:
        ViewState.from_json(text)
    assert words in str(caught.value)
