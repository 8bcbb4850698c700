"""The loss terms: every recorded number of one training step, and what each option changes."""

from contextlib import contextmanager
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F

from tests.recorded_draws import recorded_draws
from training.augment import AUGMENT_PRESETS, AugmentPipe
from training.dual_discriminator import DualDiscriminator
from training.loss import Batch, StyleGAN2Loss, with_swapped_cameras, without_camera
from training.triplane import TriPlaneGenerator

RENDERING = dict(
    image_resolution=128,
    disparity_space_sampling=False,
    clamp_mode="softplus",
    superresolution_module="training.superresolution.SuperresolutionHybrid2X",
    c_gen_conditioning_zero=False,
    c_scale=1.0,
    superresolution_noise_mode="none",
    density_reg=0.25,
    density_reg_p_dist=0.004,
    reg_type="l1",
    decoder_lr_mul=1.0,
    sr_antialias=True,
    depth_resolution=12,
    depth_resolution_importance=12,
    ray_start=2.25,
    ray_end=3.3,
    box_warp=1,
    avg_camera_radius=2.7,
    avg_camera_pivot=[0, 0, 0.2],
)

# Sums over a whole phase agree to 1e-4 of their scale. These two stand just above: gradients jump
# where a sample crosses a texel or an activation its kink, and a change of z by 1e-6 of itself
# already moves them by up to 3e-5; all other arrays agree to 1e-5.
KINKS = {
    "backbone.synthesis.b4.const": 1.5e-4,
    "backbone.synthesis.b64.conv1.weight": 1.5e-4,
}


@pytest.fixture
def networks(conformance, state_of):
    G = TriPlaneGenerator(
        z_dim=32,
        c_dim=25,
        w_dim=512,
        img_resolution=128,
        img_channels=3,
        mapping_kwargs=dict(num_layers=2),
        channel_base=1024,
        channel_max=16,
        num_fp16_res=0,
        sr_num_fp16_res=0,
        rendering_kwargs=dict(RENDERING),
    )
    G.load_state_dict(state_of(conformance("generator")))
    D = DualDiscriminator(
        c_dim=25,
        img_resolution=128,
        img_channels=3,
        channel_base=512,
        channel_max=16,
        num_fp16_res=0,
        epilogue_kwargs=dict(mbstd_group_size=4),
    )
    step = conformance("training_step")
    D.load_state_dict(state_of(step))
    for name, param in G.named_parameters():
        if name.endswith("noise_strength"):
            param.data.zero_()
    return G.train().requires_grad_(False), D.train().requires_grad_(False), step


def make_loss(G, D, **kwargs):
    settings = dict(
        r1_gamma=1.5,
        blur_init_sigma=10,
        blur_fade_kimg=200,
        neural_rendering_resolution_initial=16,
        neural_rendering_resolution_final=24,
        neural_rendering_resolution_fade_kimg=1000,
        gpc_reg_prob=0.5,
        gpc_reg_fade_kimg=1000,
        dual_discrimination=True,
    )
    return StyleGAN2Loss(G, D, **dict(settings, **kwargs))


def accumulate(module, terms, gain):
    """Gradients of one phase call alone, and what it reported."""
    module.requires_grad_(True)
    stats = {}
    for term in terms:
        (term.loss.mean() * gain).backward()
        for name, value in term.stats.items():
            stats.setdefault(name, []).append(value.detach().flatten())
    module.requires_grad_(False)
    return {name: torch.cat(values) for name, values in stats.items()}


def test_training_step_is_the_recorded_one(networks, monkeypatch, assert_scaled):
    """Gmain, Greg, Dmain and Dreg in turn; only the tracked mean w passes from one to the next."""
    G, D, step = networks
    loss = make_loss(G, D)
    batch = Batch(step["real"], step["real_c"], step["z"], step["c"])
    phases = [
        ("Gmain", G, loss.generator, 1),
        ("Greg", G, loss.density, 4),
        ("Dmain", D, loss.discriminator, 1),
        ("Dreg", D, loss.r1, 16),
    ]
    checked = 0
    for name, module, terms, gain in phases:
        module.zero_grad(set_to_none=True)
        with recorded_draws(monkeypatch):
            stats = accumulate(module, terms(batch, 100_000), gain)
        for key, expected in step.items():
            kind = key.removeprefix(f"{name}/").split("/")[0]
            if not key.startswith(f"{name}/") or kind not in ("grad", "stat"):
                continue
            item = key.removeprefix(f"{name}/{kind}/")
            if kind == "grad":
                assert_scaled(module.get_parameter(item).grad, expected, KINKS.get(item, 1e-4))
            else:
                assert_scaled(stats[item], expected, 1e-5)
            checked += 1
        params = list(module.parameters())
        norms = [0.0 if p.grad is None else p.grad.double().norm().item() for p in params]
        assert_scaled(torch.tensor(norms), step[f"{name}/gradnorm"], 1e-4)
        assert_scaled(G.backbone.mapping.w_avg, step[f"{name}/w_avg"], 1e-5)
    assert checked == 33


def one_batch(step, count=4):
    rows = slice(0, count)
    return Batch(step["real"][rows], step["real_c"][rows], step["z"][rows], step["c"][rows])


def values(terms):
    """Loss values of all terms, under fixed draws."""
    torch.manual_seed(1)
    return [term.loss.detach().mean().item() for term in terms]


@pytest.mark.parametrize("reg_type, count", [("l1", 1), ("monotonic-detach", 2)])
def test_every_regulariser_yields_finite_terms(networks, reg_type, count):
    G, D, step = networks
    G.rendering_kwargs["reg_type"] = reg_type
    terms = list(make_loss(G, D).density(one_batch(step, 2), 0))
    assert len(terms) == count
    assert all(torch.isfinite(term.loss) and term.loss > 0 for term in terms)


def test_detaching_the_front_density_changes_gradients_only(networks):
    G, D, step = networks
    loss, grads, losses = make_loss(G, D), [], []
    for reg_type in ("monotonic-detach", "monotonic-fixed"):
        G.rendering_kwargs["reg_type"] = reg_type
        torch.manual_seed(3)
        G.requires_grad_(True).zero_grad(set_to_none=True)
        term = next(loss.density(one_batch(step, 2), 0))
        term.loss.backward()
        losses.append(term.loss.item())
        grads.append(G.decoder.net[2].weight.grad.clone())
    assert losses[0] == losses[1]
    assert not torch.allclose(grads[0], grads[1])


def test_unknown_regulariser_is_refused(networks):
    G, D, _ = networks
    G.rendering_kwargs["reg_type"] = "total-variation"
    with pytest.raises(ValueError, match="total-variation"):
        make_loss(G, D)


def test_no_weight_means_no_term(networks):
    G, D, step = networks
    G.rendering_kwargs["density_reg"] = 0
    loss = make_loss(G, D, r1_gamma=0)
    assert list(loss.density(one_batch(step), 0)) == []
    assert list(loss.r1(one_batch(step), 0)) == []


@pytest.mark.parametrize(
    "option",
    [
        dict(blur_init_sigma=0),
        dict(blur_fade_kimg=10),
        dict(gpc_reg_prob=None),
        dict(gpc_reg_prob=0.0, gpc_reg_fade_kimg=0),
        dict(gpc_reg_fade_kimg=100),
        dict(style_mixing_prob=1.0),
        dict(neural_rendering_resolution_initial=32),
        dict(neural_rendering_resolution_final=None),
        dict(neural_rendering_resolution_fade_kimg=100),
        dict(filter_mode="none"),
        dict(filter_mode="classic"),
        dict(filter_mode=0.5),
        dict(augment_pipe=torch.neg),
    ],
    ids=lambda option: ",".join(option),
)
def test_option_changes_the_discriminator_terms(networks, option):
    G, D, step = networks
    state = {k: v.clone() for k, v in G.state_dict().items()}
    before = values(make_loss(G, D).discriminator(one_batch(step, 2), 180_000))
    G.load_state_dict(state)
    after = values(make_loss(G, D, **option).discriminator(one_batch(step, 2), 180_000))
    assert before != after
    assert all(torch.isfinite(torch.tensor(after)))


def test_r1_covers_the_raw_picture_with_dual_discrimination_only(networks):
    G, D, step = networks
    dual = values(make_loss(G, D).r1(one_batch(step), 0))
    single = values(make_loss(G, D, dual_discrimination=False).r1(one_batch(step), 0))
    assert 0 < single[0] < dual[0]


def test_style_mixing_replaces_late_latents_only(networks):
    G, D, step = networks
    ws = torch.zeros(2, 14, 512)
    torch.manual_seed(0)
    mixed = make_loss(G, D, style_mixing_prob=1.0)._mix_styles(ws, step["z"][:2], step["c"][:2])
    changed = (mixed != 0).any(dim=2).all(dim=0)
    cutoff = int(changed.float().argmax())
    assert 1 <= cutoff <= 13 and changed[cutoff:].all() and not changed[:cutoff].any()
    assert make_loss(G, D)._mix_styles(ws, step["z"][:2], step["c"][:2]) is ws


def test_main_term_of_the_discriminator_moves_only_the_mean_latent(networks):
    G, D, step = networks
    state = {k: v.clone() for k, v in G.state_dict().items()}
    resolution = G.neural_rendering_resolution
    list(make_loss(G, D).generator(one_batch(step, 2), 0))
    assert all(torch.equal(v, state[k]) for k, v in G.state_dict().items())
    list(make_loss(G, D).discriminator(one_batch(step, 2), 0))
    moved = [k for k, v in G.state_dict().items() if not torch.equal(v, state[k])]
    assert moved == ["backbone.mapping.w_avg"]
    assert G.neural_rendering_resolution == resolution


def test_swapping_moves_cameras_and_leaves_classes():
    c, gate = torch.randn(4, 28), [True, False, True, False]
    expected = [[*c[i - g, :25].tolist(), *c[i, 25:].tolist()] for i, g in enumerate(gate)]
    assert with_swapped_cameras(c, torch.tensor(gate)[:, None]).tolist() == expected
    expected = [[*c[i - 1, :25].tolist(), *c[i, 25:].tolist()] for i in range(4)]
    assert with_swapped_cameras(c, torch.tensor(True)).tolist() == expected
    assert without_camera(c).tolist() == [[*[0.0] * 25, *row[25:].tolist()] for row in c]
    assert torch.equal(without_camera(c[:, :25]), torch.zeros(4, 25))


@pytest.mark.parametrize("prob, shift", [(None, None), (0.0, 0), (1.0, 1)])
def test_classes_are_told_whatever_is_told_of_cameras(prob, shift):
    """To G in its main phase and in that of the regulariser, and to D."""

    class Mapping(torch.nn.Linear):
        rendering_kwargs: ClassVar[dict] = {}

        def mapping(self, z, c, **kwargs):
            told.append(c)
            return torch.zeros(len(c), 2, 1)

    told, G = [], Mapping(1, 1)
    loss = StyleGAN2Loss(G, None, gpc_reg_prob=prob, gpc_reg_fade_kimg=0, conditional=False)
    batch = Batch(None, None, torch.zeros(3, 1), torch.randn(3, 28))
    loss._latents(batch, loss.at(0))
    loss._regularised_ws(batch, 0, mix=False)
    camera, classes = batch.gen_c[:, :25], batch.gen_c[:, 25:]
    hidden = torch.cat([torch.zeros(3, 25), classes], dim=1)
    expected = hidden if prob is None else torch.cat([camera.roll(shift, 0), classes], dim=1)
    assert len(told) == 2 and all(torch.equal(c, expected) for c in told)
    assert torch.equal(loss.example({}, batch.gen_c)[1], hidden)


@contextmanager
def seen_by(D):
    """Collects the pairs of pictures that D is called with."""
    seen = []
    handle = D.register_forward_pre_hook(lambda module, args: seen.append(dict(args[0])))
    try:
        yield seen
    finally:
        handle.remove()


def test_pairs_are_blurred_then_augmented_together(networks, assert_scaled):
    G, D, step = networks
    given = []

    def pipe(pair):
        given.append(pair)
        return pair.flip(3) * 2

    batch = one_batch(step, 2)
    seen = {}
    for name, augment_pipe in (("plain", None), ("augmented", pipe)):
        torch.manual_seed(2)
        loss = make_loss(G, D, augment_pipe=augment_pipe)
        with seen_by(D) as seen[name]:
            list(loss.discriminator(batch, 100_000))
            next(loss.generator(batch, 100_000))
    assert len(given) == 3 and len(seen["plain"]) == len(seen["augmented"]) == 3
    # Real pictures; the generated ones depend on the mean w, which moves in between.
    plain, augmented, pair = seen["plain"][1], seen["augmented"][1], given[1]
    resize = dict(mode="bilinear", align_corners=False, antialias=True)
    enlarged = F.interpolate(plain["image_raw"], size=128, **resize)
    assert_scaled(pair, torch.cat([plain["image"], enlarged], dim=1))
    assert_scaled(augmented["image"], plain["image"].flip(3) * 2)
    size = plain["image_raw"].shape[-1]
    reduced = F.interpolate(enlarged.flip(3) * 2, size=size, **resize)
    assert_scaled(augmented["image_raw"], reduced)


def test_r1_counts_gradients_at_the_augmented_pictures(networks, assert_scaled):
    G, D, step = networks
    batch = one_batch(step)
    loss = make_loss(G, D, augment_pipe=lambda pair: pair * 3)
    with seen_by(D) as seen:
        term = next(loss.r1(batch, 100_000))
    pictures = {name: image.detach().requires_grad_(True) for name, image in seen[0].items()}
    grads = torch.autograd.grad(D(pictures, batch.real_c).sum(), list(pictures.values()))
    penalty = sum(grad.square().flatten(1).sum(1) for grad in grads)
    assert_scaled(term.stats["Loss/r1_penalty"].detach(), penalty)


def test_every_term_works_through_augmentation(networks):
    G, D, step = networks
    batch = one_batch(step, 2)
    pipe = AugmentPipe(**AUGMENT_PRESETS["bgc"])
    loss = make_loss(G, D, augment_pipe=pipe)
    phases = [(G, loss.generator), (D, loss.discriminator), (D, loss.r1)]
    for module, terms in phases:
        module.zero_grad(set_to_none=True)
        accumulate(module, terms(batch, 100_000), 1)
        grads = [p.grad for p in module.parameters() if p.grad is not None]
        assert grads and all(torch.isfinite(grad).all() for grad in grads)
        assert any(grad.abs().max() > 0 for grad in grads)
