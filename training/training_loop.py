"""The training loop: one function in execution order."""

import json
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import tqdm

import dnnlib
from torch_utils import misc
from training import image_grid, schedules
from training.config import OptionError, TrainingConfig, describe
from training.dataset import DatasetError
from training.loss import Batch
from training.phases import Phase, make_ema, make_phases, run_phase, update_ema
from training.reporting import PhaseTimer, RunLog
from training.snapshots import Sampler, save_snapshot


def training_loop(
    config: TrainingConfig,
    rank: int = 0,
    abort_fn: Callable[[], bool] | None = None,
    progress_fn: Callable[[int, int], None] | None = None,
) -> None:
    """Trains a model as `config` says and fills `config.run_dir`, which must exist.

    Args:
        rank: of this process among `config.num_gpus`.
        abort_fn: asked once a tick; True ends the run after the tick's snapshots.
        progress_fn: told (kimg so far, kimg in all).
    """
    start_time = time.time()
    device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
    seed = config.random_seed * config.num_gpus + rank
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    set_precision(config.cudnn_benchmark)

    # Set up: data, networks, phases.
    training_set = dnnlib.util.construct_class_by_name(**config.training_set_kwargs)
    G, D = build_networks(config, training_set, device)
    G_ema = make_ema(G)
    loss = dnnlib.util.construct_class_by_name(G=G, D=D, **config.loss_kwargs)
    G.neural_rendering_resolution = loss.at(0).rendering_resolution
    print_summaries(G, D, config.batch_gpu, device)
    phases = make_phases(
        loss,
        config.G_opt_kwargs,
        config.D_opt_kwargs,
        config.G_reg_interval,
        config.D_reg_interval,
    )
    data = iterate_batches(config, training_set, phases, device, rank)

    # Set up: what the run writes.
    run_dir = Path(config.run_dir)
    sampler, reals = make_sampler(config, training_set, device)
    image_grid.save_image_grid(reals, run_dir / "reals.png", (0, 255), sampler.grid_size)
    total_nimg = config.total_kimg * 1000
    log = RunLog(run_dir, device, total_nimg, start_time)
    timer = PhaseTimer(device)
    print(f"Training for {config.total_kimg} kimg on {device}...\n", flush=True)
    # Past the logger: the bar is for a terminal, not for log.txt.
    bar = tqdm.tqdm(
        total=total_nimg,
        unit="img",
        desc="training",
        leave=False,
        disable=None,
        file=sys.__stderr__,
    )

    # Train.
    if progress_fn is not None:
        progress_fn(0, config.total_kimg)
    nimg, batch_idx, tick, tick_nimg = 0, 0, 0, 0
    done = False
    while not done:
        moment = loss.at(nimg)
        G.neural_rendering_resolution = moment.rendering_resolution
        for phase, batches in next(data):
            if batch_idx % phase.interval == 0:
                timer.run(phase.name, run_phase, phase, batches, nimg)
        beta = schedules.ema_beta(nimg, config.batch_size, config.ema_kimg, config.ema_rampup)
        update_ema(G_ema, G, beta)
        nimg += config.batch_size
        batch_idx += 1
        bar.update(config.batch_size)

        # Once a tick: report, and now and then keep pictures and weights.
        done = nimg >= total_nimg
        if not done and tick > 0 and nimg < tick_nimg + config.kimg_per_tick * 1000:
            continue
        timer.report()
        bar.clear()
        print(log.status(tick, nimg), flush=True)
        if not done and abort_fn is not None and abort_fn():
            print("Aborting...", flush=True)
            done = True
        if done or tick % config.image_snapshot_ticks == 0:
            grids = sampler.save(G_ema, run_dir, f"fakes{nimg // 1000:06d}")
            log.images({f"Fakes{suffix}": grid for suffix, grid in grids.items()}, nimg)
        if done or tick % config.network_snapshot_ticks == 0:
            path = run_dir / f"network-snapshot-{nimg // 1000:06d}.pkl"
            save_snapshot(path, config.training_set_kwargs, G=G, D=D, G_ema=G_ema)
        log.write(nimg)
        if progress_fn is not None:
            progress_fn(nimg // 1000, config.total_kimg)
        tick += 1
        tick_nimg = nimg
    bar.close()
    log.close()


def set_precision(cudnn_benchmark: bool) -> None:
    """Exact float32 products, as the published models were trained with."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    products.allow_tf32 = convolutions.allow_tf32 = False
    products.allow_fp16_reduced_precision_reduction = False
    convolutions.benchmark = cudnn_benchmark


def build_networks(config: TrainingConfig, training_set, device: torch.device):
    """G and D in training mode, without gradients (phases switch them on)."""
    sizes = dict(
        c_dim=training_set.label_dim,
        img_resolution=training_set.resolution,
        img_channels=training_set.num_channels,
    )
    G = dnnlib.util.construct_class_by_name(**config.G_kwargs, **sizes)
    D = dnnlib.util.construct_class_by_name(**config.D_kwargs, **sizes)
    # Part of every published checkpoint, though nothing reads it.
    G.register_buffer("dataset_label_std", torch.tensor(training_set.get_label_std()))
    return (net.train().requires_grad_(False).to(device) for net in (G, D))


def print_summaries(G, D, batch_gpu: int, device: torch.device) -> None:
    """Prints the modules of both networks with their parameters and output shapes."""
    z = torch.zeros([batch_gpu, G.z_dim], device=device)
    c = torch.zeros([batch_gpu, G.c_dim], device=device)
    c[:, [0, 5, 10, 15, 16, 20, 24]] = 1
    pictures = misc.print_module_summary(G, [z, c])
    misc.print_module_summary(D, [pictures, c])


def iterate_batches(
    config: TrainingConfig, training_set, phases: list[Phase], device: torch.device, rank: int
) -> Iterator[list[tuple[Phase, list[Batch]]]]:
    """For every iteration the micro-batches of each phase.

    All phases share the real images; each has latents and cameras of its own, the cameras of
    randomly chosen real images.
    """
    per_rank = config.batch_size // config.num_gpus
    sampler = misc.InfiniteSampler(
        training_set, rank=rank, num_replicas=config.num_gpus, seed=config.random_seed
    )
    settings = dict(config.data_loader_kwargs)
    settings["pin_memory"] = settings.get("pin_memory", False) and device.type == "cuda"
    if not settings.get("num_workers"):
        settings.pop("prefetch_factor", None)
    loader = torch.utils.data.DataLoader(
        training_set, sampler=sampler, batch_size=per_rank, **settings
    )
    z_dim = config.G_kwargs["z_dim"]
    for images, labels in _read(loader):
        images = images.to(device, non_blocking=True).to(torch.float32) / 127.5 - 1
        labels = labels.to(device, non_blocking=True)
        z = torch.randn([len(phases), per_rank, z_dim], device=device)
        picks = np.random.randint(len(training_set), size=len(phases) * per_rank)
        cameras = torch.from_numpy(np.stack([training_set.get_label(i) for i in picks]))
        if settings["pin_memory"]:
            cameras = cameras.pin_memory()  # Else the host would wait for the GPU here.
        cameras = cameras.to(device, non_blocking=True).reshape(len(phases), per_rank, -1)
        split = config.batch_gpu
        yield [
            (
                phase,
                [
                    Batch(*parts)
                    for parts in zip(
                        images.split(split),
                        labels.split(split),
                        z[i].split(split),
                        cameras[i].split(split),
                        strict=True,
                    )
                ],
            )
            for i, phase in enumerate(phases)
        ]


def _read(loader: torch.utils.data.DataLoader) -> Iterator[list[torch.Tensor]]:
    """The loader's batches; a DatasetError of a worker process is one line again."""
    try:
        yield from loader
    except DatasetError as error:
        # torch has put the worker's whole traceback into the message, the error itself last.
        line = str(error).rstrip().splitlines()[-1]
        raise DatasetError(line.removeprefix(f"{DatasetError.__module__}.DatasetError: ")) from None


def make_sampler(config: TrainingConfig, training_set, device: torch.device):
    """The fixed pictures to watch, and the real ones [N, C, H, W] whose cameras they share."""
    grid_size, images, labels = image_grid.setup_snapshot_image_grid(
        training_set, config.random_seed, config.image_grid
    )
    z = torch.randn([len(labels), config.G_kwargs["z_dim"]], device=device)
    c = torch.from_numpy(labels).to(device)
    return Sampler(z, c, grid_size, chunk=config.batch_gpu), images


def launch(config: TrainingConfig) -> None:
    """Creates the run directory, records the options and trains; output goes to log.txt too.

    So does the traceback of whatever ends the run early. Raises OptionError where the directory
    cannot be made.
    """
    run_dir = Path(config.run_dir)
    try:
        run_dir.mkdir(parents=True)
    except FileExistsError:
        raise OptionError(f"--outdir: {run_dir} was made meanwhile; start again") from None
    except OSError as error:
        raise OptionError(f"--outdir: {run_dir} cannot be made ({error.strerror})") from None
    with open(run_dir / "training_options.json", "w", encoding="utf-8") as file:
        json.dump(asdict(config), file, indent=2)
    with dnnlib.util.Logger(str(run_dir / "log.txt"), "a", should_flush=True) as log:
        start = time.time()
        print(describe(config))
        try:
            training_loop(config)
        except BaseException:
            log.file.write(traceback.format_exc())
            raise
        print(f"\nDone in {dnnlib.util.format_time(time.time() - start)}: {run_dir}")
