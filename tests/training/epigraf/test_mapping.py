"""The mapping network with a pose against recorded numbers, and what each option changes."""

import math

import pytest
import torch

from tests.recorded_draws import recorded_draws
from training.epigraf.mapping import PoseMappingNetwork

VARIANTS = {  # recorded array: the state it belongs to, options
    "raw": ("raw", dict(camera_cond=True, camera_raw_scalars=True)),
    "raw_mean_pose": ("raw", dict(camera_cond=True, camera_raw_scalars=True)),
    "raw_trunc": ("raw", dict(camera_cond=True, camera_raw_scalars=True)),
    "raw_train_noise": (
        "raw",
        dict(camera_cond=True, camera_raw_scalars=True, camera_cond_noise_std=0.3),
    ),
    "fourier": ("fourier", dict(camera_cond=True)),
    "fourier_train_drop": ("fourier", dict(camera_cond=True, camera_cond_drop_p=0.5)),
    "unconditional": ("unconditional", dict(c_dim=0)),
}
POSE = (0.1, 1.4, 0)


def small(**options):
    sizes = dict(z_dim=16, c_dim=3, w_dim=12, num_ws=5, mean_camera_pose=POSE)
    return PoseMappingNetwork(**{**sizes, **options}).eval()


@pytest.mark.parametrize("name", VARIANTS)
def test_recorded_numbers(name, conformance, state_of, assert_scaled, monkeypatch):
    recorded = conformance("epigraf/mapping")
    state, options = VARIANTS[name]
    network = small(**options)
    network.load_state_dict(state_of(recorded, f"state_{state}/"))
    network.train("train" in name)
    told = {} if name == "raw_mean_pose" else dict(angles=recorded["angles"])
    truncation = (0.6, 3) if name == "raw_trunc" else ()
    with recorded_draws(monkeypatch):
        ws = network(recorded["z"], recorded["c"], *truncation, **told)
    assert_scaled(ws, recorded[name])


def test_recorded_numbers_of_a_label_alone(conformance, state_of, assert_scaled):
    recorded = conformance("epigraf/mapping")
    network = PoseMappingNetwork(z_dim=0, c_dim=3, w_dim=12, num_ws=None, w_avg_beta=None)
    network.load_state_dict(state_of(recorded, "state_label_only/"))
    assert_scaled(network(None, recorded["c"]), recorded["label_only"])


def test_the_tracked_mean_follows_ws():
    network = small(w_avg_beta=0.75)
    z, c = torch.randn(4, 16), torch.randn(4, 3)
    ws = network(z, c, update_emas=True)
    torch.testing.assert_close(network.w_avg, ws[:, 0].mean(0) / 4)


def codes(p, drop, count=2000):
    """Codes of training [count, 24] where the pose's own code is `whole`."""
    network = small(camera_cond=True, camera_cond_drop_p=p, camera_cond_drop=drop).train()
    angles = torch.tensor([[0.3, 1.2, 0.5]]).expand(count, 3)
    whole = small(camera_cond=True)._pose_code(angles[:1])
    return network._pose_code(angles), whole


def test_dropout_of_elements_keeps_the_mean():
    code, whole = codes(0.25, "element")
    torch.testing.assert_close(code.mean(0), whole[0], rtol=0, atol=0.06)
    kept = (code != 0).double()
    assert kept.mean() == pytest.approx(0.75, abs=0.02)
    assert kept.mean(1).min() > 0 and kept.mean(1).unique().numel() > 3


def test_dropping_samples_forgets_whole_poses():
    code, whole = codes(0.25, "sample")
    gone = (code == 0).all(dim=1)
    torch.testing.assert_close(code[~gone], whole.expand(int((~gone).sum()), -1))
    assert gone.double().mean() == pytest.approx(0.25, abs=0.04)


def test_noise_is_proportional_to_the_batch_and_off_in_eval():
    network = small(camera_cond=True, camera_raw_scalars=True, camera_cond_noise_std=0.5)
    angles = torch.randn(4000, 3) * torch.tensor([0.1, 0.02, 0.3]) + 1
    turns = angles[:, :2] / (2 * math.pi)
    torch.testing.assert_close(network._pose_code(angles), turns)
    noise = network.train()._pose_code(angles) - turns
    torch.testing.assert_close(noise.std(0), turns.std(0) * 0.5, rtol=0.06, atol=0)


def test_roll_and_whole_turns_do_not_matter():
    network = small(camera_cond=True)
    z, c = torch.randn(2, 16), torch.randn(2, 3)
    angles = torch.tensor([[0.3, 1.2, 0.0], [-0.4, 1.8, 0.0]])
    other = angles + torch.tensor([[2 * math.pi, 0, 0.7], [-2 * math.pi, 0, 0.7]])
    torch.testing.assert_close(
        network(z, c, angles=other), network(z, c, angles=angles), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    "options, count",
    [
        (dict(c_dim=0), 525_312),
        (dict(c_dim=0, camera_cond=True, camera_raw_scalars=True), 788_992),
        (dict(c_dim=198), 889_344),
        (dict(c_dim=10), 793_088),
    ],
)
def test_published_sizes(options, count):
    with torch.device("meta"):
        network = PoseMappingNetwork(z_dim=512, w_dim=512, num_ws=16, **options)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(camera_cond_drop_p=1), "camera_cond_drop_p"),
        (dict(camera_cond_drop="whole"), "camera_cond_drop"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_missing_angles_and_wrong_classes_are_named():
    z, c = torch.randn(2, 16), torch.randn(2, 3)
    with pytest.raises(ValueError, match="angles must be given"):
        small(camera_cond=True).train()(z, c)
    with pytest.raises(ValueError, match="angles must be given"):
        small(camera_cond=True, mean_camera_pose=None)(z, c)
    with pytest.raises(ValueError, match=r"c must have shape \[N, 3\], not \(2, 4\)"):
        small()(z, torch.randn(2, 4))
