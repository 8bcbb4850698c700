"""`train.py --preset`: options that fit a machine, set together.

All presets train the published batch of 32 images (EG3D, Chan et al. 2022, 8 GPUs with 4 images
each); where a GPU cannot take its share at once, gradients add up over micro-batches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training import methods
from training.option_checks import OptionError
from training.rehearsal import micro_batches

PUBLISHED_BATCH = 32

# R1 weights of the published recipes with a batch of 32, and their picture sides.
PUBLISHED_GAMMA = {"ffhq": (1.0, 512), "afhq": (5.0, 512), "shapenet": (0.3, 128)}


@dataclass(frozen=True)
class Hardware:
    """A machine: `gpus` of one kind, the most images that one takes at once, and `recompute`.

    Sized for pictures of 512 and rendering at 128: see "Memory of training" in docs/benchmarks.md.
    """

    gpus: int
    batch_gpu: int
    recompute: str = "none"


# A GPU needs about 2.1 GB for weights, Adam, gradients and CUDA itself, and for each image 3.1 GB,
# or 2.2 GB with --recompute=renderer (counted, half precision modelled; 1.9 GB at 64 agrees with
# the published 8.73 GB for 4 images). A tenth of the memory stays free: 21.6 of 24, 72 of 80 GB.
HARDWARE = {
    "1x24gb": Hardware(1, 8, "renderer"),  # 19.7 GB; 26.9 GB without recomputation
    "1x80gb": Hardware(1, 16),  # 52 GB; 101 GB for 32
    "4x24gb": Hardware(4, 8, "renderer"),  # all of a GPU's share at once, as 1x24gb
    "4x80gb": Hardware(4, 8),  # the share; 27 GB, so nothing needs to be computed twice
    "8x24gb": Hardware(8, 4),  # the published split; 14.5 GB
    "8x80gb": Hardware(8, 4),  # the same: more memory does not make a share of 4 faster
}


def with_hardware(options: Mapping[str, Any], given: set[str], resolution: int) -> dict[str, Any]:
    """The options with `gpus`, `batch`, `batch_gpu`, `gamma` and `recompute` as
    `options['preset']` knows them, if it is set; what the user set stays.

    Args:
        options: all options of the command by name, defaults included.
        given: names of those that the user set.
        resolution: side of the data set's pictures.
    """
    options = dict(options)
    if options.get("preset") is None:
        return options
    machine, cfg = HARDWARE[options["preset"]], options["cfg"]
    if options["method"] != methods.DEFAULT:
        raise OptionError(
            f"--preset={options['preset']}: its sizes are measured for --method={methods.DEFAULT}; "
            "give --gpus, --batch, --batch-gpu and --gamma"
        )
    if cfg not in PUBLISHED_GAMMA:
        raise OptionError(
            f"--preset={options['preset']}: is for --cfg={', '.join(PUBLISHED_GAMMA)}; "
            f"--cfg={cfg} knows its own sizes"
        )

    def fill(**values: Any) -> None:
        options.update({name: v for name, v in values.items() if name not in given})

    fill(gpus=machine.gpus, batch=PUBLISHED_BATCH, recompute=machine.recompute)
    fill(gamma=scaled_gamma(cfg, resolution, options["batch"]))
    # Twice the side is about half as much again for each image: one block more in both networks.
    most = machine.batch_gpu if resolution <= 512 else machine.batch_gpu // 2
    allowed = micro_batches(options["batch"], options["gpus"], options["mbstd_group"])
    fitting = [n for n in allowed if n <= most] or allowed[-1:]
    # Where no size is possible the check of the batch says why.
    fill(batch_gpu=fitting[0] if fitting else options["batch_gpu"])
    return options


def scaled_gamma(cfg: str, resolution: int, batch: int) -> float:
    """The published R1 weight, scaled by pixels / batch, rounded to three digits.

    That is how the heuristic of StyleGAN2-ADA's config "auto" scales (Karras et al. 2020, "Training
    Generative Adversarial Networks with Limited Data": 0.0002 pixels / batch); the factor is that
    of EG3D's recipe. A start: the best value is a matter of the data too.
    """
    gamma, side = PUBLISHED_GAMMA[cfg]
    return float(f"{gamma * resolution**2 / side**2 * PUBLISHED_BATCH / batch:.3g}")
