"""The losses of Mimic3D: every recorded number of one step, where gradients go, and what each
option changes."""

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.recorded_draws import recorded_draws
from training.dual_discriminator import DualDiscriminator, SingleDiscriminator
from training.loss import Batch
from training.mimic3d.loss import Mimic3DLoss
from training.option_checks import OptionError

NIMG = 180_000
NARROW = dict(channel_base=256, channel_max=16)
OURS = {"Loss/G/reg": "Loss/G/density_reg"}  # recorded names of what has another one here


@pytest.fixture
def imitation(conformance):
    return conformance("mimic3d/imitation")


@pytest.fixture
def step(conformance):
    return conformance("mimic3d/training_step")


@pytest.fixture
def distance(imitation):
    """The recorded runs measure differences of tanh features on two levels."""
    weights = {key: imitation[f"state/{key}"] for key in ("c0.weight", "c1.weight")}
    biases = {key: imitation[f"state/{key}"] for key in ("c0.bias", "c1.bias")}

    def levels(x):
        first = F.conv2d(x, weights["c0.weight"], biases["c0.bias"]).tanh()
        return first, F.conv2d(first, weights["c1.weight"], biases["c1.bias"], stride=2).tanh()

    def measure(a, b):
        pairs = zip(levels(a), levels(b), strict=True)
        return sum((x - y).square().mean(dim=(1, 2, 3), keepdim=True) for x, y in pairs)

    return measure


@pytest.fixture
def make_loss(generator, step, conformance, state_of, distance):
    """`make_loss(dual=False, **options)` -> the loss, all networks with the recorded weights."""

    def load(D, state):
        D.load_state_dict(state)
        return D.train().requires_grad_(False)

    def make(dual=False, **options):
        D = DualDiscriminator(25, 128, 3, channel_base=512, channel_max=16, conv_clamp=None)
        load(D, state_of(step, "state_d2d/"))
        if dual:
            D_patch = load(DualDiscriminator(0, 32, 3, **NARROW), state_of(step, "state_dual/"))
        else:
            state = state_of(conformance("mimic3d/discriminator_patch"))
            D_patch = load(SingleDiscriminator(0, 32, 3, **NARROW), state)
        settings = dict(
            lpips=distance,
            patch_gan=0.2,
            r1_gamma=1.5,
            r1_gamma_patch=2.5,
            blur_init_sigma=10,
            blur_init_sigma_patch=5,
            blur_fade_kimg=200,
            neural_rendering_resolution_initial=32,
            gpc_reg_prob=0.5,
            gpc_reg_fade_kimg=1000,
            dual_discrimination=True,
        )
        return Mimic3DLoss(generator.train(), D, D_patch, **settings | options)

    return make


def batch_of(step, count=4):
    real = step["real"][:count].float() / 127.5 - 1
    return Batch(real, step["real_c"][:count], step["z"][:count], step["gen_c"][:count])


def accumulate(module, terms, gain=1):
    """Gradients of one phase alone, and what it reported."""
    module.zero_grad(set_to_none=True)
    module.requires_grad_(True)
    stats = {}
    for term in terms:
        (term.loss.mean() * gain).backward()
        for name, value in term.stats.items():
            stats.setdefault(name, []).append(value.detach().flatten())
    module.requires_grad_(False)
    return {name: torch.cat(values) for name, values in stats.items()}


def under(arrays, prefix):
    """The arrays `prefix/NAME` by NAME."""
    return {
        k.removeprefix(f"{prefix}/"): v for k, v in arrays.items() if k.startswith(f"{prefix}/")
    }


def group_of(name):
    """With which parameters of G the gradient of this one was recorded."""
    if "b3d" in name:
        return "s3d" if ".block2." in name or ".block3." in name else "stream"
    parts = name.split(".")
    return "mapping" if "mapping" in parts else parts[0]


def norms_of(module, order=()):
    """The length of the gradient of each parameter, those named in `order` in that one."""
    params = dict(module.named_parameters())
    grads = [params[name].grad for name in order if name in params]
    grads = grads or [p.grad for p in params.values()]
    return [0.0 if grad is None else grad.double().norm().item() for grad in grads]


def schedules_of(loss, nimg):
    moment = loss.at(nimg)
    return {
        "Progress/blur_sigma": moment.blur_sigma,
        "Progress/blur_sigma_patch": moment.blur_sigma_raw,
        "Progress/render_size": moment.rendering_resolution,
    }


def off_the_kink(z):
    """One activation of Greg lies so near its kink that rounding decides which slope counts, which
    moves gradients by 1e-2. These latents, 1e-5 away, lie clearly on the recorded side."""
    return z * (1 + 1e-5 * torch.randn(z.shape, generator=torch.Generator().manual_seed(2)))


def compare(found, module, stats, progress, assert_scaled, order):
    """Compares all recorded numbers of a phase, `found`, with gradients, reports and schedules;
    returns what is reported by its name here. `order` is that of the recorded lengths of
    gradients."""
    names = dict(module.named_parameters())
    for key, expected in found.items():
        kind, _, name = key.partition("/")
        if kind == "grad":
            assert_scaled(names[name].grad, expected, 1e-4)
        elif kind == "gradnorm":
            assert_scaled(norms_of(module, order), expected, 1e-4)
        elif kind == "group":
            parts = [p for n, p in names.items() if group_of(n) == name and p.grad is not None]
            norm = torch.tensor([p.grad.double().norm() for p in parts]).norm()
            assert_scaled(norm, expected, 1e-4)
        elif name in progress:
            assert_scaled(torch.tensor([float(progress[name])]), expected)
        elif kind == "stat":
            assert_scaled(stats[OURS.get(name, name)], expected)
    return {OURS.get(k[5:], k[5:]) for k in found if k.startswith("stat/")} - progress.keys()


PHASES = {
    "Gmain": ("G", "generator", 1, {}),
    "Greg": ("G", "density", 4, {}),
    "Dmain": ("D", "discriminator", 1, {}),
    "Dreg": ("D", "r1", 16, {}),
    "D_patchmain": ("D_patch", "patch_discriminator", 1, {}),
    "D_patchreg": ("D_patch", "patch_r1", 16, {}),
    "Gmain_features": ("G", "generator", 1, dict(feat_match=0.5, detail_reg=0.3)),
    "dual/Gmain": ("G", "generator", 1, dict(dual=True)),
    "dual/D_patchmain": ("D_patch", "patch_discriminator", 1, dict(dual=True)),
    "dual/D_patchreg": ("D_patch", "patch_r1", 16, dict(dual=True)),
}


@pytest.mark.parametrize("phase", PHASES)
def test_phase_is_the_recorded_one(
    phase, make_loss, step, monkeypatch, assert_scaled, recorded, state_of
):
    network, terms, gain, options = PHASES[phase]
    loss = make_loss(**options)
    module, batch = getattr(loss, network), batch_of(step)
    if phase == "Greg":
        batch = batch._replace(gen_z=off_the_kink(batch.gen_z))
    with recorded_draws(monkeypatch):
        stats = accumulate(module, getattr(loss, terms)(batch, NIMG), gain)
    found = under(step, phase)
    progress, order = schedules_of(loss, NIMG), list(state_of(recorded))
    reported = compare(found, module, stats, progress, assert_scaled, order)
    assert reported == stats.keys()
    if "w_avg" in found:
        assert_scaled(loss.G.backbone.mapping.w_avg, found["w_avg"])


def finer_planes_made(G):
    """A list that grows by one whenever G makes planes of the 3D branch."""
    made = []
    G.backbone.synthesis.b3d16.block3.register_forward_hook(lambda *_: made.append(1))
    return made


def make_all_planes(G):
    planes = G.planes
    G.planes = lambda ws, *_, **__: planes(ws, branch="3d")


def test_terms_of_the_2d_branch_make_no_finer_planes(make_loss, step):
    loss = make_loss()
    made, counts = finer_planes_made(loss.G), {}
    for row in loss.trained():
        for terms in (row.main, row.regulariser):
            list(terms(batch_of(step, 2), NIMG))
            counts[terms.__name__] = len(made)
            made.clear()
    with_them = {name for name, count in counts.items() if count}
    assert with_them == {"generator", "density", "patch_discriminator"}
    assert max(counts.values()) == 1


def test_gradients_of_the_discriminator_are_those_with_all_planes(make_loss, step, monkeypatch):
    found = []
    for everything in (False, True):
        loss = make_loss()
        made = finer_planes_made(loss.G)
        if everything:
            make_all_planes(loss.G)
        with recorded_draws(monkeypatch):
            stats = accumulate(loss.D, loss.discriminator(batch_of(step), NIMG))
        assert bool(made) == everything
        found.append([*stats.values(), *(p.grad for p in loss.D.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_recorded_windows_are_those_drawn(make_loss, step, imitation, monkeypatch):
    loss, batch = make_loss(), batch_of(step)
    recorded = [v for k, v in {**step, **imitation}.items() if k.endswith("/windows")]
    assert len(recorded) == 8
    for windows in recorded:
        with recorded_draws(monkeypatch):
            drawn = loss._windows(batch, len(windows) // 4)
        assert torch.equal(torch.cat([w.corners for w in drawn]), windows)


def test_imitation_alone_is_the_recorded_one(
    make_loss, imitation, monkeypatch, assert_scaled, recorded, state_of
):
    """With a judge that has no opinion only the distance has a gradient: none for what makes the
    2D branch's final picture."""
    loss = make_loss(patch_gan=0)
    loss.D.forward = lambda images, c, **_: torch.zeros(len(c), 1)
    cut, seen = loss.G.windows, {}

    def watched(planes, ws, c, window, pictures, **kwargs):
        found = cut(planes, ws, c, window, pictures, **kwargs)
        seen.update(image_raw=pictures["image_raw"], **found)
        return found

    loss.G.windows = watched
    z, c = imitation["z"], imitation["c"]
    with recorded_draws(monkeypatch):
        stats = accumulate(loss.G, loss.generator(Batch(c, c, z, c), NIMG))
    progress, order = schedules_of(loss, NIMG), list(state_of(recorded))
    compare(under(imitation, "imitation"), loss.G, stats, progress, assert_scaled, order)
    for name in ("image_raw", "patch_image_raw", "patch_image", "patch_image_gr"):
        assert_scaled(seen[name].detach(), imitation[name])
    assert_scaled(stats["Loss/G/lpips"], imitation["distance"].flatten())
    without = {n for n, p in loss.G.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == {n for n, _ in loss.G.named_parameters() if n.startswith("superres")}


def values(terms):
    """Loss values of all terms, under fixed draws."""
    torch.manual_seed(1)
    return [term.loss.detach().mean().item() for term in terms]


@pytest.mark.parametrize(
    "option",
    [
        dict(lpips=None),
        dict(patch_gan=0),
        dict(feat_match=1),
        dict(detail_reg=1),
        dict(augment_pipe=lambda x: -x),
        dict(blur_init_sigma=0),
    ],
    ids=lambda option: next(iter(option)),
)
def test_option_changes_the_terms_of_the_generator(make_loss, step, option):
    before = values(make_loss().generator(batch_of(step, 2), NIMG))
    after = values(make_loss(**option).generator(batch_of(step, 2), NIMG))
    assert before != after and len(after) == 1


def test_weights_of_the_patch_discriminator_count(make_loss, step):
    batch = batch_of(step, 2)
    (plain,), (double,) = (
        values(make_loss(r1_gamma_patch=gamma).patch_r1(batch, NIMG)) for gamma in (1, 2)
    )
    assert double == pytest.approx(2 * plain)
    assert list(make_loss(r1_gamma_patch=0).patch_r1(batch, NIMG)) == []
    blurred, sharp = (
        values(make_loss(dual=True, blur_init_sigma_patch=s).patch_r1(batch, NIMG)) for s in (5, 0)
    )
    assert blurred != sharp


def test_windows_are_augmented_as_they_come(make_loss, step):
    """An upside-down world of windows, real and rendered, for D_patch; the distance sees none."""
    seen = []
    loss = make_loss(augment_pipe=lambda x: x.flip(2), blur_init_sigma=0)
    loss.D_patch.register_forward_pre_hook(lambda _, args: seen.append(args[0]["image"]))
    plain = make_loss(blur_init_sigma=0)
    plain.D_patch.register_forward_pre_hook(lambda _, args: seen.append(args[0]["image"]))
    for each in (loss, plain):
        values(each.patch_discriminator(batch_of(step, 2), NIMG))
    fake, real, plain_fake, plain_real = seen
    assert torch.equal(fake.flip(2), plain_fake) and torch.equal(real.flip(2), plain_real)


def test_who_is_trained_by_what(make_loss):
    loss = make_loss()
    rows = [(row.name, row.main.__name__, row.regulariser.__name__) for row in loss.trained()]
    assert rows == [
        ("G", "generator", "density"),
        ("D", "discriminator", "r1"),
        ("D_patch", "patch_discriminator", "patch_r1"),
    ]
    assert all(row.module is getattr(loss, row.name) for row in loss.trained())


def test_only_the_terms_of_the_discriminator_move_the_mean_latent(make_loss, step):
    loss = make_loss()
    state = {k: v.clone() for k, v in loss.G.state_dict().items()}
    moved = {}
    for terms in (loss.generator, loss.patch_discriminator, loss.discriminator):
        list(terms(batch_of(step, 2), NIMG))
        now = loss.G.state_dict()
        moved[terms.__name__] = [k for k in now if not torch.equal(now[k], state[k])]
    assert moved == {
        "generator": [],
        "patch_discriminator": [],
        "discriminator": ["backbone.mapping.w_avg"],
    }


def test_recomputed_activations_give_the_same_gradients(make_loss, step, assert_scaled):
    found = []
    for recompute in ("none", "renderer+sr"):
        loss = make_loss(recompute=recompute)
        torch.manual_seed(0)
        accumulate(loss.G, loss.generator(batch_of(step, 2), NIMG))
        found.append(torch.tensor(norms_of(loss.G)))
    assert_scaled(found[1], found[0])


def test_the_distance_may_be_a_file(make_loss, step, tmp_path, conformance, state_of):
    path = tmp_path / "lpips.npz"
    np.savez(path, **state_of(conformance("mimic3d/lpips")))
    loss = make_loss(lpips=str(path))
    (term,) = loss.generator(batch_of(step, 2), NIMG)
    assert (term.stats["Loss/G/lpips"] > 0).all()


def test_a_file_that_has_changed_is_refused(make_loss, tmp_path, conformance, state_of):
    path = tmp_path / "lpips.npz"
    np.savez(path, **state_of(conformance("mimic3d/lpips")))
    known = hashlib.sha256(path.read_bytes()).hexdigest()
    make_loss(lpips=str(path), lpips_sha256=known)
    with pytest.raises(OptionError, match=f"lpips.npz: has changed .* is {known}, was 0000"):
        make_loss(lpips=str(path), lpips_sha256="0000")
