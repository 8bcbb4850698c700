"""What each shared option of train.py changes in a training: one row an option.

A new option needs a row here. `look` of its proof is shown two trials, without and with
`argument`; what it finds must differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import torch
from click.testing import CliRunner

import dnnlib
import train
from tests.tiny_runs import BASE, Trial, configure, flat, parse
from training import config as configuration
from training.config import OptionError
from training.index_order import iteration_indices
from training.superresolution import Superresolution

SNAPSHOT = "SNAPSHOT"  # stands for a snapshot of the training without further options
OTHER_DATA = "OTHER-DATA"  # stands for another dataset


class OtherSuperresolution(Superresolution):
    """For --sr-module: the usual one with a tensor more."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("mark", torch.zeros(1))


@dataclass(frozen=True)
class Proof:
    """Where a difference shows: `words` for people, `look` gives it for a trial."""

    words: str
    look: Callable[[Trial], object]


@dataclass(frozen=True)
class Row:
    """An option, an `argument` that gives it, and `partners`: what both trainings have besides.

    `fields` says whether the configuration changes; without, there is nothing to configure.
    """

    argument: str
    proof: Proof
    partners: tuple[str, ...] = ()
    fields: bool = True

    @property
    def option(self) -> str:
        """Its name."""
        return self.argument.split("=")[0]


def changed_fields(row: Row) -> list[str]:
    """The fields of the configuration that the option changes; none if it is refused."""
    fixed = ["--data=DATA", "--outdir=runs", *row.partners]
    try:
        plain, changed = flat(configure(*fixed)), flat(configure(*fixed, row.argument))
    except OptionError:
        return []
    return [key for key in {**plain, **changed} if plain.get(key) != changed.get(key)]


# -- Proofs ---------------------------------------------------------------------------------------


def weights(*names: str) -> Proof:
    """Tensors of networks in the snapshot."""
    words = f"weights of {' and '.join(names)} after training"
    return Proof(words, lambda trial: [trial.run.weights(name) for name in names])


def stat(name: str) -> Proof:
    """A statistic of the last tick."""
    return Proof(
        f"`{name}` in training_stats.jsonl", lambda trial: trial.run.stats[-1][name]["mean"]
    )


def arithmetic(name: str) -> Proof:
    """A switch of torch, or of our operators."""
    return Proof(
        f"the switch `{name}`, read while training",
        lambda trial: trial.run.ticks[-1]["arithmetic"][name],
    )


def half_precision(name: str) -> Proof:
    """Which blocks of G or D are for half precision, and the clamp that comes with it."""

    @torch.no_grad()
    def look(trial: Trial) -> tuple:
        torch.manual_seed(0)
        sizes = dict(c_dim=25, img_resolution=32, img_channels=3)
        kwargs = trial.config.G_kwargs if name == "G" else trial.config.D_kwargs
        network = dnnlib.util.construct_class_by_name(**kwargs, **sizes).eval()
        for key, parameter in network.named_parameters():
            if key.endswith("bias"):
                parameter.fill_(1e4)
        blocks = [key for key, m in network.named_modules() if getattr(m, "use_fp16", False)]
        c = torch.eye(4).flatten()[None]
        c = torch.cat([c, torch.eye(3).flatten()[None]], dim=1)
        if name == "G":
            ws = torch.ones(1, network.backbone.num_ws, network.backbone.w_dim)
            planes = network.planes(ws)
            out = network.superresolution(torch.ones(1, 3, 8, 8), torch.ones(1, 32, 8, 8), ws)
            return blocks, planes.sum().item(), out.sum().item()
        image = dict(image=torch.ones(4, 3, 32, 32), image_raw=torch.ones(4, 3, 8, 8))
        return blocks, network(image, c.repeat(4, 1)).sum().item()

    return Proof(f"blocks of {name} for half precision; tensors clamped", look)


def _shapes(trial: Trial) -> dict:
    sizes = dict(c_dim=25, img_resolution=32, img_channels=3)
    G = dnnlib.util.construct_class_by_name(**trial.config.G_kwargs, **sizes)
    return {name: tuple(tensor.shape) for name, tensor in G.state_dict().items()}


def _command(trial: Trial) -> tuple:
    """What the command prints; how often it starts a training, the processes for others, and the
    settings of jobs that it submits."""
    outdir = f"--outdir={trial.workshop.folder / 'command'}"
    with (
        mock.patch("training.local_processes.run", return_value=(0, None)) as run,
        mock.patch("training.launch.launch", return_value=True) as launch,
        mock.patch("training.cluster.submit_slurm", return_value="7") as submit,
    ):
        line = [*BASE, *trial.arguments, outdir]
        result = CliRunner().invoke(train.main, line, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    started = launch.call_count, [call.args[0] for call in run.call_args_list]
    return result.output, *started, [call.args[-1] for call in submit.call_args_list]


def _dry(trial: Trial) -> tuple:
    output, launches, *_ = _command(trial)
    return "Dry run; exiting." in output, launches


def _processes(trial: Trial) -> tuple:
    """What the command starts, and the first iteration's images of the first process."""
    c = trial.config
    images = iteration_indices(12, c.batch_size, 0, 0, 0, c.num_gpus, c.batch_gpu)
    return _command(trial)[1:], next(images)


def _notices(trial: Trial) -> list[str]:
    opts, given = parse(*trial.arguments)
    return configuration.idle_options(opts, given)


def _checkpoints(trial: Trial) -> list[str]:
    return sorted(path.name[:23] for path in trial.run.run_dir.glob("checkpoint-*"))


def _summary(trial: Trial) -> list[str]:
    """The lines of the module summary with the shapes of a micro-batch."""
    return [line for line in trial.run.printed.splitlines() if "float32" in line]


G, D, BOTH = weights("G"), weights("D"), weights("G", "D")
TRAINED = Proof(
    "names of D's parameters, which exclude what is not trained",
    lambda trial: [name for name, _ in trial.run.snapshot["D"].named_parameters()],
)
REALS = Proof("reals.png", lambda trial: trial.run.picture("reals.png"))
PLACE = Proof(
    "folder of the run's files",
    lambda trial: trial.run.run_dir.relative_to(trial.run.run_dir.parents[1]),
)
PRINTED_CACHE = Proof(
    "a printed line: images in memory", lambda trial: "images in memory" in trial.run.printed
)
RECOMPUTED = Proof("parts that are computed twice", lambda trial: trial.run.recomputed)
JOBS = Proof("settings of jobs given to Slurm", lambda trial: _command(trial)[-1])
METRICS = Proof(
    "metric-*.jsonl",
    lambda trial: [path.name for path in sorted(trial.run.run_dir.glob("metric-*.jsonl"))],
)
NOTICE = Proof("a printed line: has no effect", _notices)

# -- Rows -----------------------------------------------------------------------------------------

POSED = "--gen_pose_cond=True"
TWO, THREE = "--kimg=2", "--kimg=3"  # iterations

ROWS = [
    Row("--outdir=elsewhere", PLACE),
    Row("--cfg=afhq", BOTH),
    Row(f"--data={OTHER_DATA}", REALS),
    Row(
        "--gpus=2",
        Proof("processes that the command starts; their images", _processes),
        ("--mbstd-group=2",),
    ),
    Row("--batch=8", stat("Progress/kimg")),
    Row("--gamma=5", D),
    Row("--metrics=fd2k_randconv112", METRICS),
    Row("--detector=randconv112", METRICS, ("--metrics=fid2k_full",)),
    Row("--pr-detector=randconv112", METRICS, ("--metrics=pr50k3",)),
    Row("--cond=False", BOTH),
    Row("--cond_classes=True", BOTH),
    Row("--mirror=True", REALS),
    Row("--rebalance=yaw", BOTH),
    Row("--aug=fixed", BOTH, ("--p=0.9",)),
    Row("--p=0.9", BOTH, ("--aug=fixed",)),
    Row(
        "--target=1",
        stat("Progress/augment"),
        ("--aug=ada", "--kimg=5", "--tick=5", "--gamma=0", "--dlr=0.005", "--seed=1"),
    ),
    Row(
        "--ada-kimg=1",
        stat("Progress/augment"),
        ("--aug=ada", "--kimg=5", "--tick=5", "--target=0", "--seed=1"),
    ),
    Row(f"--resume={SNAPSHOT}", BOTH),
    Row("--resume_blur=True", D, (f"--resume={SNAPSHOT}",)),
    Row("--freezed=2", TRAINED),
    Row("--batch-gpu=2", Proof("shapes in the printed summary", _summary), ("--mbstd-group=2",)),
    Row("--preset=1x24gb", RECOMPUTED),
    Row("--recompute=renderer", RECOMPUTED),
    Row("--cbase=512", BOTH),
    Row("--cmax=8", BOTH),
    Row("--glr=0.1", G),
    Row("--dlr=0.1", D),
    Row("--map-depth=3", G),
    Row("--mbstd-group=2", D),
    Row("--desc=mine", PLACE),
    Row("--kimg=2", stat("Progress/kimg")),
    Row(
        "--tick=2",
        Proof("lines of training_stats.jsonl", lambda trial: len(trial.run.stats)),
        (THREE,),
    ),
    Row(
        "--snap=1",
        Proof(
            "pictures and snapshots that are there at each tick",
            lambda trial: [tick["files"] for tick in trial.run.ticks],
        ),
        (THREE, "--snap=2"),
    ),
    Row("--wandb=project", Proof("calls of Weights & Biases", lambda trial: trial.run.wandb)),
    Row("--launch=slurm", JOBS, ("--launch-options=timeout_min=10",), fields=False),
    Row(
        "--launch-options=timeout_min=20",
        JOBS,
        ("--launch=slurm", "--launch-options=timeout_min=10"),
        fields=False,
    ),
    Row("--seed=1", weights("G", "D", "G_ema")),
    Row("--checkpoint-minutes=0", Proof("checkpoint files", _checkpoints), (THREE,)),
    Row(
        "--nan-limit=0",
        Proof("the error that ends the run", lambda trial: trial.run.error),
        ("--glr=1e30", TWO),
    ),
    Row("--nobench=True", arithmetic("autotuner")),
    Row("--tf32=True", arithmetic("tf32")),
    Row("--deterministic=True", arithmetic("deterministic")),
    Row(
        "--compile=generator",
        Proof("number of modules that torch.compile is given", lambda trial: trial.run.compiled),
    ),
    Row(
        "--cuda_graphs=True",
        Proof("a printed line, without a GPU", lambda trial: "CUDA graphs" in trial.run.printed),
    ),
    Row("--ops=torch", arithmetic("ops")),
    Row("--cache=ram", PRINTED_CACHE),
    Row(
        "--workers=2",
        Proof("processes that read data", lambda trial: trial.run.ticks[-1]["processes"]),
        ("--workers=1",),
    ),
    Row("--dry-run", Proof("a printed line; nothing is started", _dry), fields=False),
    Row("--neural_rendering_resolution_initial=16", BOTH),
    Row(
        "--neural_rendering_resolution_final=16",
        BOTH,
        (TWO, "--neural_rendering_resolution_fade_kimg=1"),
    ),
    Row(
        "--neural_rendering_resolution_fade_kimg=1",
        BOTH,
        (TWO, "--neural_rendering_resolution_final=16"),
    ),
    Row("--blur_fade_kimg=1", D, (TWO,)),
    Row(POSED, G),
    Row("--c-scale=0.5", G, (POSED,)),
    Row("--gpc_reg_prob=0", G, (TWO, POSED, "--gpc_reg_fade_kimg=0")),
    Row("--gpc_reg_fade_kimg=1", G, (TWO, POSED, "--gpc_reg_prob=0")),
    Row("--disc_c_noise=1", D),
    Row("--sr_noise_mode=random", G),
    Row("--sr_num_fp16_res=0", half_precision("G")),
    Row("--g_num_fp16_res=4", half_precision("G")),
    Row("--d_num_fp16_res=0", half_precision("D")),
    Row("--style_mixing_prob=1", G),
    Row(
        "--sr-module=tests.option_effects.OtherSuperresolution",
        Proof("tensors of G", _shapes),
    ),
    Row("--density_reg=1", G),
    Row("--density_reg_every=1", G, (TWO,)),
    Row("--density_reg_p_dist=0.1", G),
    Row("--reg_type=monotonic-fixed", G),
    Row("--decoder_lr_mul=0.5", G),
    Row("--plane_axes=orthogonal", G),
    Row("--aware3d=True", G, ("--plane_axes=cyclic",)),
    Row("--c-noise=1", NOTICE, fields=False),
    Row("--sr_first_cutoff=3", NOTICE, fields=False),
    Row("--sr_first_stopband=5", NOTICE, fields=False),
]
