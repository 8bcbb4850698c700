"""What is checked of the options of `train.py` before anything is made."""

import math
import re

import dnnlib
from torch_utils.ops import choice
from training.cameras import LABEL_SIZE
from training.loss import REG_TYPES
from training.presets import GENERAL_SUPERRESOLUTION, SUPERRESOLUTION_MODULES, Preset
from training.triplane import PLANE_RESOLUTION


class OptionError(ValueError):
    """An option that cannot be used; the message names it and says what would be right."""


def check_values(opts: dnnlib.EasyDict) -> None:
    """Raises OptionError for options whose part is not built, or whose value makes no sense."""
    if opts.wandb:
        from training.sinks import import_wandb  # here, since it takes OptionError from this module

        import_wandb()
    for name, value in opts.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise OptionError(f"--{name}={value}: must be a finite number")
    _check_ops(opts)
    if opts.reg_type not in REG_TYPES:
        raise OptionError(
            f"--reg_type={opts.reg_type}: no such regulariser exists; use {', '.join(REG_TYPES)}"
        )
    if opts.gpc_reg_prob > 1:
        raise OptionError(f"--gpc_reg_prob={opts.gpc_reg_prob}: must be from 0 to 1")
    if opts.density_reg_every % 1:
        raise OptionError(
            f"--density_reg_every={opts.density_reg_every}: must be a whole number of iterations"
        )
    if opts.desc and re.search(r"[/\\\x00]", opts.desc):
        raise OptionError(f"--desc={opts.desc}: becomes part of a folder's name: leave slashes out")
    if opts.decoder_lr_mul <= 0:
        raise OptionError(f"--decoder_lr_mul={opts.decoder_lr_mul}: must be above 0")
    if opts.aware3d and opts.plane_axes != "cyclic":
        raise OptionError(
            f"--aware3d=True: is for planes that follow each other in a circle: add "
            f"--plane_axes=cyclic (it is {opts.plane_axes})"
        )
    if opts.gen_pose_cond and not opts.cond:
        raise OptionError(
            "--gen_pose_cond=True: shows cameras to the generator's mapping network, which "
            "--cond=False forbids"
        )


def _check_ops(opts: dnnlib.EasyDict) -> None:
    try:
        choice.chosen_ops()
    except ValueError as error:
        raise OptionError(str(error)) from None
    problem = None
    if opts.ops == "triton" and opts.launch == "here":
        problem = choice.why_not_triton()
    if problem:
        raise OptionError(f"--ops=triton: {problem}; --ops=auto uses what there is")


def check_batch(opts: dnnlib.EasyDict) -> int:
    """The micro-batch of one device; raises OptionError where the sizes do not divide."""
    if opts.batch % opts.gpus:
        raise OptionError(f"--batch={opts.batch}: must be a multiple of --gpus={opts.gpus}")
    batch_gpu = opts.batch_gpu or opts.batch // opts.gpus
    if opts.batch % (opts.gpus * batch_gpu):
        raise OptionError(
            f"--batch={opts.batch}: must be a multiple of --gpus={opts.gpus} x "
            f"--batch-gpu={batch_gpu}"
        )
    if batch_gpu % opts.mbstd_group:
        raise OptionError(
            f"--batch-gpu={batch_gpu}: must be a multiple of --mbstd-group={opts.mbstd_group}"
        )
    return batch_gpu


def check_data(opts: dnnlib.EasyDict, training_set, preset: Preset) -> None:
    """Raises OptionError unless the dataset has cameras and pictures that the networks can make."""
    where = f"--data={opts.data}"
    if not training_set.has_labels:
        raise OptionError(f"{where}: has no cameras (dataset.json); training needs them")
    size = training_set.label_dim
    if opts.cond_classes and size <= LABEL_SIZE:
        raise OptionError(f"{where}: has no classes beside its cameras, --cond_classes=True does")
    if not opts.cond_classes and size != LABEL_SIZE:
        raise OptionError(f"{where}: labels have {size} numbers, a camera has {LABEL_SIZE}")
    if training_set.num_channels != 3:
        raise OptionError(f"{where}: pictures need 3 channels, RGB")
    side = training_set.resolution
    if not 32 <= side <= 1024 or side & (side - 1):
        raise OptionError(
            f"{where}: pictures have {side} pixels a side; must be a power of two from 32 to 1024"
        )
    planes = preset.generator.get("plane_resolution", PLANE_RESOLUTION)
    if opts.cbase < max(side, planes):
        raise OptionError(
            f"--cbase={opts.cbase}: leaves no channels where pictures or planes are "
            f"{max(side, planes)} wide; must be at least that"
        )


def superresolution_module(opts: dnnlib.EasyDict, resolution: int) -> str:
    """Dotted class name of the super-resolution; raises OptionError if there is none of the name,
    or it makes pictures of another size."""
    if opts.sr_module is None:
        return SUPERRESOLUTION_MODULES.get(resolution, GENERAL_SUPERRESOLUTION)
    try:
        module = dnnlib.util.get_obj_by_name(opts.sr_module)
    except (ImportError, AttributeError) as error:
        raise OptionError(
            f"--sr-module={opts.sr_module}: cannot be imported ({error}); "
            f"give a class such as {GENERAL_SUPERRESOLUTION}"
        ) from None
    layout = getattr(module, "layout", None)
    if layout is not None and layout.img_resolution != resolution:
        raise OptionError(
            f"--sr-module={opts.sr_module}: makes pictures of {layout.img_resolution} pixels, the "
            f"dataset has {resolution}; {GENERAL_SUPERRESOLUTION} makes any size"
        )
    return opts.sr_module
