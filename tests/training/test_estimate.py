"""What a run is said to need, against sizes worked out by hand and numbers counted otherwise."""

from dataclasses import replace

import pytest
import torch

import dnnlib
from torch_utils import misc
from torch_utils.memory_count import LiveBytes
from training import estimate as module
from training.dataset import ImageFolderDataset
from training.estimate import (
    Estimate,
    announce,
    auto_batch_gpu,
    choose_batch_gpu,
    count_activations,
    estimate,
)
from training.option_checks import OptionError
from training.phases import make_phases

SIZES = dict(c_dim=25, img_resolution=32, img_channels=3)


@pytest.fixture
def run(tiny_config):
    config = tiny_config("--batch=8", "--batch-gpu=4", "--map-depth=1")
    config.D_kwargs["mapping_kwargs"]["num_layers"] = 1
    G, D = (
        dnnlib.util.construct_class_by_name(**kwargs, **SIZES).train().requires_grad_(False)
        for kwargs in (config.G_kwargs, config.D_kwargs)
    )
    return config, G, D


def test_state(run):
    config, G, D = run
    found = estimate(config, dict(G=G, D=D), capacity=10**9)
    g, d = (sum(p.numel() for p in n.parameters()) for n in (G, D))
    assert found.parameters == {"G": g, "D": d}
    buffers = [sum(b.numel() for b in n.buffers()) for n in (G, D)]
    # G: weights, average, gradients, two moments. D has no average.
    assert found.state == 4 * (5 * g + 4 * d + 2 * buffers[0] + buffers[1])
    assert list(found.activations) == ["Gmain", "Greg", "Dmain", "Dreg"]
    assert found.peak == found.state + max(found.activations.values())
    assert (found.batch_gpu, found.other_sizes) == (4, ())


def test_fake_passes_count_the_same(run):
    config, G, D = run
    real = count_activations(config, dict(G=G, D=D), 4, fake=False)
    assert count_activations(config, dict(G=G, D=D), 4, fake=True) == real
    eight, twelve = (count_activations(config, dict(G=G, D=D), size) for size in (8, 12))
    for name in ("Gmain", "Dreg"):  # What a micro-batch is scaled by when one is chosen.
        assert twelve[name] - eight[name] == pytest.approx(eight[name] - real[name], rel=0.03)
    # Greg looks at 2,000 points an image, whatever their pictures' size.
    config.loss_kwargs["neural_rendering_resolution_final"] = 16
    config.loss_kwargs["neural_rendering_resolution_fade_kimg"] = 0.001
    larger = count_activations(config, dict(G=G, D=D), 4)
    assert larger["Gmain"] > 1.2 * real["Gmain"] and larger["Greg"] == real["Greg"]


@pytest.mark.parametrize("fake", [False, True])
def test_nothing_changes(run, fake):
    config, G, D = run
    G.rendering_kwargs["reg_type"] = "monotonic-detach"  # It uses a constant that is kept.
    misc._constants.clear()
    state = {k: v.clone() for n in (G, D) for k, v in n.state_dict().items()}
    numbers = torch.get_rng_state()
    count_activations(config, dict(G=G, D=D), 4, fake=fake)
    assert torch.equal(numbers, torch.get_rng_state())
    assert all(torch.equal(v, state[k]) for n in (G, D) for k, v in n.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for n in (G, D) for p in n.parameters())
    assert all(type(v) is torch.Tensor for v in misc._constants.values())
    assert len(misc._constants) == (0 if fake else 1)


def test_an_independent_count(run):
    """A step of G by hand needs as much, within what the order of deletions makes."""
    config, G, D = run
    counted = count_activations(config, dict(G=G, D=D), 4)["Gmain"]
    G.requires_grad_(True)
    z, c = torch.randn(4, G.z_dim), torch.zeros(4, 25)
    c[:, [0, 5, 10, 15, 16, 20, 24]] = 1
    with LiveBytes() as live:
        pictures = G.synthesis(G.mapping(z, c), c, neural_rendering_resolution=8)
        D(pictures, c).sum().backward()
    grads = sum(p.numel() * 4 for p in G.parameters())
    assert abs(live.peak - counted) < 0.1 * counted + grads


def sized(**changes):
    values = dict(
        parameters=dict(G=30_660_000, D=31_360_000),
        state=1_100_000_000,
        activations=dict(Gmain=16_000_000_000, Dreg=9_000_000_000),
        batch_gpu=8,
        other_sizes=(4, 2),
        capacity=24_000_000_000,
    )
    return Estimate(**values | changes)


def test_lines(run):
    config = replace(run[0], total_kimg=1000)
    assert sized().lines(config, nimg=100_000, seconds_per_kimg=36.0) == [
        "Parameters:   G 30.66 M, D 31.36 M",
        "Memory:       17.10 of 24.00 GB (counted)",
        "              1.10 GB state, 16.00 GB for 8 images in Gmain",
        "Speed:        36.0 s/kimg at first, or slower",
        "To the end:   9h 00m 00s for 900 kimg",
    ]
    assert len(sized().lines(config)) == 3


def test_advice(run):
    config = run[0]
    assert sized().fits and not sized(capacity=18_900_000_000).fits
    line = sized(capacity=12_000_000_000).lines(config)[-1]
    assert line.startswith(
        "Warning: memory may not suffice for --batch-gpu=8: use --batch-gpu=4 or"
    )
    assert "--batch-gpu=2 or" in sized(capacity=10_000_000_000).lines(config)[-1]
    assert "use --recompute=renderer+sr" in sized(capacity=3_000_000_000).lines(config)[-1]
    config.loss_kwargs["recompute"] = "renderer+sr"
    line = sized(capacity=3_000_000_000).lines(config)[-1]
    assert line.endswith("a smaller --neural_rendering_resolution_final or smaller pictures")


def test_choosing_by_counting(run):
    config, G, D = run
    found = estimate(config, dict(G=G, D=D), capacity=0)
    eight = found.state + 2 * max(found.activations.values())
    assert choose_batch_gpu(config, dict(G=G, D=D), capacity=int(eight / 0.75) + 9) == 8
    assert choose_batch_gpu(config, dict(G=G, D=D), capacity=eight) == 4
    with pytest.raises(OptionError, match="auto: 0.0 GB do not suffice for --batch-gpu=4: use"):
        choose_batch_gpu(config, dict(G=G, D=D), capacity=found.peak)


def test_automatic_batch(run):
    config = run[0]
    training_set = ImageFolderDataset(path=config.training_set_kwargs["path"], use_labels=True)
    assert auto_batch_gpu(config, training_set) == 8


def test_announcement(run, monkeypatch):
    config, G, D = run
    loss = dnnlib.util.construct_class_by_name(G=G, D=D, **config.loss_kwargs)
    phases = make_phases(loss.trained(), config.optimizers, dict(G=4, D=16))
    lines = announce(config, phases, gpus=2)
    assert [line.split(":")[0].strip() for line in lines[:2]] == ["Parameters", "Memory"]
    assert "s/kimg" in lines[3] and lines[4].endswith("for 0.016 kimg")
    monkeypatch.setattr(module, "available_memory", lambda *args: 10**6)
    lines = announce(config, phases)
    assert len(lines) == 4 and lines[-1].startswith("Warning: memory may not suffice")

    def fails(*args):
        raise RuntimeError("no fake kernel for my::operator\nmore of it")

    monkeypatch.setattr(module, "count_activations", fails)
    assert announce(config, phases)[0].endswith("not counted (no fake kernel for my::operator)")
