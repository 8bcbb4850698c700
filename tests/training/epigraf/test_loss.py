"""The losses against one recorded training step, and what each option changes."""

import pytest
import torch

from tests.recorded_draws import recorded_draws
from tests.training.epigraf.test_generator import load, make, published_keys
from training.epigraf.cameras import label_from_angles
from training.epigraf.discriminator import PatchDiscriminator
from training.epigraf.loss import EpigrafLoss
from training.loss import Batch

NIMG = 180_000


@pytest.fixture
def step(conformance, state_of):
    data = conformance("epigraf/training_step")
    G = make("generator_bg_sphere")
    load(G, state_of(conformance("epigraf/generator_bg_sphere")))
    G.backbone.mapping.camera_cond_noise_std = 0.1
    state = state_of(conformance("epigraf/discriminator"))
    D = PatchDiscriminator(
        c_dim=3,
        img_resolution=16,
        num_additional_start_blocks=2,
        channel_base=512,
        channel_max=16,
        head_kwargs=dict(camera_cond=True, camera_cond_drop_p=0.5),
    )
    D.load_state_dict(state)
    order = dict(D=list(state), G=list(state_of(conformance("epigraf/generator_bg_sphere"))))
    return G.train().requires_grad_(False), D.train().requires_grad_(False), data, order


def labels(angles, classes):
    return torch.cat([label_from_angles(angles, 1.0, 12.0), classes], dim=1)


def batch_of(data):
    return Batch(
        data["real"].float() / 127.5 - 1,
        labels(data["real_angles"], data["real_c"]),
        data["z"],
        labels(data["gen_angles"], data["gen_c"]),
    )


def make_loss(G, D, **kwargs):
    settings = dict(
        r1_gamma=1.5,
        blur_init_sigma=10,
        blur_fade_kimg=200,
        patch_resolution=16,
        patches=dict(min_scale=0.25, beta_start=0.4005, beta_end=0.4005, grouping="contiguous"),
        density_noise_initial=0.7 / 0.964,
        density_noise_fade_kimg=5000,
    )
    return EpigrafLoss(G, D, **dict(settings, **kwargs))


class Conditioned(EpigrafLoss):
    """The recorded step swaps no poses; it is given the conditioning ones."""

    condition = None

    def _latents(self, batch, moment, update_emas=False):
        return self.G.mapping(batch.gen_z, self.condition, update_emas=update_emas)


@pytest.mark.parametrize("phase", ["Gall", "Dmain", "Dreg"])
def test_recorded_phase(step, phase, monkeypatch, assert_scaled):
    G, D, data, order = step
    loss = make_loss(G, D)
    loss.__class__ = Conditioned
    loss.condition = labels(data["gen_angles_cond"], data["gen_c"])
    terms = {"Gall": loss.generator, "Dmain": loss.discriminator, "Dreg": loss.r1}[phase]
    module, gain = (G, 1) if phase == "Gall" else (D, 16 if phase == "Dreg" else 1)
    module.requires_grad_(True)
    stats = {}
    with recorded_draws(monkeypatch):
        for term in terms(batch_of(data), NIMG):
            (term.loss.mean() * gain).backward()
            stats |= term.stats
    named = {(published_keys(n) if module is G else n): p for n, p in module.named_parameters()}
    norms = [named[n] for n in order["G" if module is G else "D"] if n in named]
    norms = [0.0 if p.grad is None else p.grad.norm().item() for p in norms]
    assert_scaled(norms, data[f"{phase}/gradnorm"], 1e-4)
    for name, value in data.items():
        where, _, key = name.removeprefix(f"{phase}/").partition("/")
        if not name.startswith(f"{phase}/"):
            continue
        if where == "grad":
            assert_scaled(named[key].grad, value, 1e-4)
        elif where == "stat":
            ours = {"Loss/D/r1_penalty": "Loss/r1_penalty"}.get(key, key)
            assert_scaled(stats[ours].detach().flatten(), value, 1e-4)
        elif name.endswith("w_avg") and phase != "Dreg":  # recorded after all phases before it
            assert_scaled(G.backbone.mapping.w_avg, value, 1e-5)
