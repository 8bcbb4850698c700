"""Trainings of a second at most, made from command lines, to see what an option changes.

They train the shapenet preset on small pictures with tiny networks, and a kimg lasts one iteration.
"""

import contextlib
import hashlib
import io
import json
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from unittest import mock

import psutil
import torch

import train
from metrics.feature_metrics import FEATURE_METRICS
from torch_utils.ops import choice
from training import config as configuration
from training import recomputation
from training.aware3d import aware3d_resolutions
from training.config import TrainingConfig
from training.hardware import with_hardware
from training.training_loop import training_loop

ITERATION = 4  # images
BASE = ["--cfg=shapenet", "--gpus=1", f"--batch={ITERATION}", "--gamma=1", "--kimg=1", "--tick=1"]
BASE += ["--cbase=256", "--cmax=16", "--neural_rendering_resolution_initial=8"]


CLASSES = 3


class AnyCars:
    """As much of a dataset as a configuration needs, opened with classes or without."""

    name, resolution, num_channels, has_labels = "cars", 32, 3, True

    def __init__(self, use_classes: bool = False):
        self.label_dim = 25 + (CLASSES if use_classes else 0)

    def __len__(self):
        return 12


def parse(*arguments: str) -> tuple[dict, set[str]]:
    """The options of a command line that starts with BASE, with the preset's, and which of them
    were given."""
    context = train.main.make_context("train", [*BASE, *arguments])
    sources = {name: context.get_parameter_source(name).name for name in context.params}
    given = {name for name, source in sources.items() if source == "COMMANDLINE"}
    options = with_hardware(context.params, given, AnyCars.resolution)
    return configuration.with_preset(options, given), given


@contextlib.contextmanager
def fake_wandb() -> Iterator[Callable[[], list[str]]]:
    """Weights & Biases that sends nothing; yields a function that lists what was called."""
    module = mock.MagicMock(Error=ConnectionError)
    before = sys.modules.get("wandb")
    sys.modules["wandb"] = module
    try:
        yield lambda: sorted({name for name, _, _ in module.mock_calls})
    finally:
        del sys.modules["wandb"]
        if before is not None:
            sys.modules["wandb"] = before


def configure(*arguments: str) -> TrainingConfig:
    """The configuration as `train.py` makes it."""
    with fake_wandb():
        opts, _ = parse(*arguments)
        return configuration.build_config(opts, AnyCars(opts.cond_classes))


def shrink(config: TrainingConfig) -> TrainingConfig:
    """The configuration with small networks and few samples, in which a kimg is one iteration."""
    G_kwargs = dict(config.G_kwargs, plane_resolution=8, z_dim=16, w_dim=16)
    if "aware3d_res" in G_kwargs:
        G_kwargs["aware3d_res"] = aware3d_resolutions(G_kwargs["plane_resolution"])
    samples = dict(depth_resolution=4, depth_resolution_importance=4)
    G_kwargs["rendering_kwargs"] = dict(G_kwargs["rendering_kwargs"], **samples)
    G_kwargs["sr_kwargs"] = dict(G_kwargs["sr_kwargs"], widths=[8, 8])
    iteration = ITERATION / 1000
    fades = {k: v * iteration for k, v in config.loss_kwargs.items() if k.endswith("_fade_kimg")}
    times = ("total_kimg", "kimg_per_tick", "ema_kimg", "ada_kimg")
    return replace(
        config,
        G_kwargs=G_kwargs,
        loss_kwargs=dict(config.loss_kwargs, **fades),
        image_grid=[2, 1],
        **{name: getattr(config, name) * iteration for name in times},
    )


def flat(config: TrainingConfig) -> dict[str, object]:
    """{dotted field: value} of a configuration."""

    def leaves(prefix: str, value) -> Iterator[tuple[str, object]]:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                yield from leaves(f"{prefix}.{key}" if prefix else key, inner)
        else:
            yield prefix, value

    return dict(leaves("", asdict(config)))


@dataclass
class Run:
    """What a training left behind. `ticks` holds what was there at its
    beginning and at the end of each tick. What is to be compiled stays as it is."""

    run_dir: Path
    printed: str
    error: str
    ticks: list[dict]
    compiled: int  # modules
    recomputed: int  # parts of networks, forward passes counted
    wandb: list[str]  # what was called there

    @cached_property
    def snapshot(self) -> dict:
        """The last snapshot."""
        with open(sorted(self.run_dir.glob("network-snapshot-*.pkl"))[-1], "rb") as file:
            return pickle.load(file)

    @cached_property
    def stats(self) -> list[dict]:
        """The lines of training_stats.jsonl."""
        text = (self.run_dir / "training_stats.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def weights(self, name: str) -> dict[str, tuple]:
        """Shape and hash of each tensor of a network of the snapshot."""
        state = self.snapshot[name].state_dict()
        return {key: (tuple(t.shape), _hash(t.numpy().tobytes())) for key, t in state.items()}

    def picture(self, name: str) -> str:
        """Hash of a file."""
        return _hash((self.run_dir / name).read_bytes())


class Workshop:
    """Makes runs below a folder, each only once.

    Args:
        data: the dataset that all runs use unless they say otherwise.
    """

    def __init__(self, folder: Path, data: Path):
        self.folder = folder
        self.data = data
        self._trials: dict[tuple, Trial] = {}

    def trial(self, *arguments: str) -> "Trial":
        """The trial of a command line that starts with BASE."""
        return self._trials.setdefault(arguments, Trial(self, arguments))


class Trial:
    """A command line: its configuration, and a training of it if somebody looks at that."""

    def __init__(self, workshop: Workshop, arguments: tuple[str, ...]):
        self.workshop = workshop
        self.arguments = (f"--data={workshop.data}", "--outdir=runs", *arguments)

    @cached_property
    def config(self) -> TrainingConfig:
        """As `train.py` makes it, but small."""
        return shrink(configure(*self.arguments))

    @cached_property
    def run(self) -> Run:
        """A training. Data are read by processes of their own where --workers was given."""
        folder = self.workshop.folder / f"{len(list(self.workshop.folder.iterdir())):03d}"
        run_dir = folder / self.config.run_dir
        run_dir.mkdir(parents=True)
        config = replace(self.config, run_dir=str(run_dir))
        if not any(a.startswith("--workers") for a in self.arguments):
            loader = dict(config.data_loader_kwargs, num_workers=0)
            config = replace(config, data_loader_kwargs=loader)
        return _train(config)


def _train(config: TrainingConfig) -> Run:
    run_dir, ticks, error = Path(config.run_dir), [], ""

    def look(kimg: float, total_kimg: float) -> None:
        files = sorted(run_dir.glob("fakes*.png")) + sorted(run_dir.glob("network-snapshot-*"))
        ticks.append(
            dict(
                files={path.name: _hash(path.read_bytes()) for path in files},
                processes=len(psutil.Process().children()),
                arithmetic=arithmetic(),
            )
        )

    stays = mock.Mock(side_effect=lambda function, **_: function)
    quick = mock.patch.dict("metrics.metric_main._METRICS", _quick_metrics())
    compiler = mock.patch("torch.compile", stays)
    recompute = mock.Mock(side_effect=recomputation.checkpoint)
    counted = mock.patch("training.recomputation.checkpoint", recompute)
    patched = contextlib.ExitStack()
    for patch in (quick, compiler, counted):
        patched.enter_context(patch)
    with patched, _arithmetic_kept(), fake_wandb() as wandb, io.StringIO() as text:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            try:
                training_loop(config, progress_fn=look)
            except Exception as caught:
                error = f"{type(caught).__name__}: {caught}"
        calls = (stays.call_count, recompute.call_count)
        return Run(run_dir, text.getvalue(), error, ticks, *calls, wandb())


def _quick_metrics() -> dict:
    """Some metrics with four generated pictures in place of thousands."""
    found = [FEATURE_METRICS[name] for name in ("fd2k_randconv112", "fid2k_full", "pr50k3")]
    return {m.name: replace(m, fake=replace(m.fake, count=4)) for m in found}


def arithmetic() -> dict[str, bool | str]:
    """How torch computes in this process."""
    return dict(
        tf32=torch.backends.cuda.matmul.allow_tf32,
        autotuner=torch.backends.cudnn.benchmark,
        deterministic=torch.are_deterministic_algorithms_enabled(),
        ops=choice.chosen_ops(),
    )


@contextlib.contextmanager
def _arithmetic_kept() -> Iterator[None]:
    before, threads = arithmetic(), torch.get_num_threads()
    cudnn_tf32 = torch.backends.cudnn.allow_tf32
    cudnn_deterministic = torch.backends.cudnn.deterministic
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = before["tf32"]
        torch.backends.cudnn.allow_tf32 = cudnn_tf32
        torch.backends.cudnn.deterministic = cudnn_deterministic
        torch.backends.cudnn.benchmark = before["autotuner"]
        torch.use_deterministic_algorithms(before["deterministic"])
        choice.set_ops(None)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
