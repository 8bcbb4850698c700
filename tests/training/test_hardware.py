"""`--preset`: what it fills in, and that what it fills in can be trained."""

import pytest

from training.hardware import HARDWARE, with_hardware
from training.option_checks import OptionError

DEFAULTS = dict(cfg="ffhq", gpus=None, batch=None, gamma=None, batch_gpu=None, recompute="none")
DEFAULTS |= dict(mbstd_group=4, preset=None, kimg=25000, method="eg3d")


def filled(resolution=512, **given):
    options = with_hardware(DEFAULTS | given, set(given), resolution)
    assert {name: options[name] for name in given} == given
    return options


@pytest.mark.parametrize("name", HARDWARE)
@pytest.mark.parametrize("resolution", [128, 512, 1024])
def test_every_preset_can_be_trained(name, resolution):
    options = filled(resolution, preset=name)
    gpus, memory = name.removesuffix("gb").split("x")
    assert options["gpus"] == int(gpus) and options["batch"] == 32
    micro = options["batch_gpu"]
    assert options["batch"] % (options["gpus"] * micro) == 0 and micro % 4 == 0
    # GB an image at rendering 128 (docs/benchmarks.md), 4.5 with pictures of 1024.
    image = dict(none=3.06, renderer=2.2)[options["recompute"]] * (1.5 if resolution > 512 else 1)
    assert micro * image + 2.1 <= 0.9 * int(memory)
    assert options["kimg"] == 25000


def test_published_recipe():
    options = filled(preset="8x80gb")
    assert (options["gpus"], options["batch"], options["batch_gpu"]) == (8, 32, 4)
    assert (options["gamma"], options["recompute"]) == (1.0, "none")
    assert filled(preset="8x24gb", cfg="afhq")["gamma"] == 5
    assert filled(128, preset="8x24gb", cfg="shapenet")["gamma"] == 0.3


def test_gamma_follows_pixels_and_batch():
    assert filled(256, preset="8x24gb")["gamma"] == 0.25
    assert filled(256, preset="8x24gb", batch=64)["gamma"] == 0.125
    assert filled(512, preset="1x24gb", batch=8)["gamma"] == 4


def test_what_is_given_stays():
    options = filled(preset="1x80gb", gamma=7.5, recompute="renderer", batch_gpu=8)
    assert options["batch"] == 32
    assert filled(preset="1x24gb", batch=12)["batch_gpu"] == 4
    assert filled(preset="1x80gb", batch=48, mbstd_group=8)["batch_gpu"] == 16
    assert filled(preset="8x80gb", mbstd_group=6)["batch_gpu"] is None


def test_other_methods_have_other_sizes():
    with pytest.raises(OptionError, match="--preset=1x24gb: its sizes are measured for --method"):
        filled(preset="1x24gb", method="another")


def test_without_preset_nothing_changes():
    assert filled() == DEFAULTS
    with pytest.raises(OptionError, match="--preset=1x24gb: is for --cfg=ffhq, afhq, shapenet"):
        filled(preset="1x24gb", cfg="demo")
