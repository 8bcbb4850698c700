"""The training loop: one function in execution order."""

import contextlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import tqdm

import dnnlib
from torch_utils import misc, training_stats
from training import checkpoints, image_grid, runs, schedules
from training.ada import AdaptiveStrength
from training.config import TrainingConfig, describe
from training.dataset import DatasetError
from training.guard import Guard, NonFiniteError, require_finite
from training.loss import Batch
from training.phases import Phase, make_ema, make_phases, run_phase, update_ema
from training.random_state import seed_everything
from training.reporting import PhaseTimer, RunLog
from training.snapshots import Sampler, save_snapshot
from training.starting import start_from_snapshot
from training.stopping import StopSignals, leave_signals_to_parent


def training_loop(
    config: TrainingConfig,
    rank: int = 0,
    abort_fn: Callable[[], bool] | None = None,
    progress_fn: Callable[[int, int], None] | None = None,
    state: dict | None = None,
    stop_fn: Callable[[], object] = lambda: None,
) -> bool:
    """Trains a model as `config` says and fills `config.run_dir`, which must exist.

    Args:
        rank: of this process among `config.num_gpus`.
        abort_fn: asked once a tick; True ends the run after the tick's snapshots.
        progress_fn: told (kimg so far, kimg in all).
        state: of the checkpoint to go on from, see `training.checkpoints.Progress`.
        stop_fn: asked before every iteration; True ends the run at once, with a checkpoint.

    Returns whether the run has come to its end; no: `stop_fn` stopped it. Raises NonFiniteError
    when too much of a tick, or a network that is to be written, is not finite.
    """
    start_time = time.time()
    device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
    seed_everything(config.random_seed * config.num_gpus + rank)
    set_precision(config.cudnn_benchmark)

    # Set up: data, networks, phases.
    training_set = dnnlib.util.construct_class_by_name(**config.training_set_kwargs)
    networks = build_networks(config, training_set, device)
    G, D, G_ema = (networks[name] for name in ("G", "D", "G_ema"))
    augment_pipe = networks.get("augment_pipe")
    if config.resume_pkl is not None and state is None:
        print(f"Starting from the weights of {config.resume_pkl}", flush=True)
        start_from_snapshot(networks, config.resume_pkl)
    loss = dnnlib.util.construct_class_by_name(
        G=G, D=D, augment_pipe=augment_pipe, **config.loss_kwargs
    )
    G.neural_rendering_resolution = loss.at(0).rendering_resolution
    print_summaries(G, D, config.batch_gpu, device)
    phases = make_phases(
        loss,
        config.G_opt_kwargs,
        config.D_opt_kwargs,
        config.G_reg_interval,
        config.D_reg_interval,
    )
    guard = Guard({p.name: [name for name, _ in p.trained()] for p in phases}, config.nan_limit)
    ada = make_ada(config, augment_pipe)

    # Set up: what the run writes.
    run_dir = Path(config.run_dir)
    sampler, reals = make_sampler(config, training_set, device)
    image_grid.save_image_grid(reals, run_dir / "reals.png", (0, 255), sampler.grid_size)
    total_nimg = config.total_kimg * 1000
    log = RunLog(run_dir, device, total_nimg, start_time)
    timer = PhaseTimer(device)

    # Set up: where it is. What is changed from here on is part of the checkpoints.
    parts = dict(networks, statistics=training_stats, guard=guard, sampler=sampler, log=log)
    parts |= optimizers(networks, phases) | ({} if ada is None else {"ada": ada})
    now = checkpoints.Progress(parts, device)
    if state is not None:
        now.load_state_dict(state)
        moment = loss.at(max(now.nimg - config.batch_size, 0))
        G.neural_rendering_resolution = G_ema.neural_rendering_resolution = (
            moment.rendering_resolution
        )
    data = iterate_batches(config, training_set, phases, device, rank, start=now.batch_idx)
    clock = checkpoints.Clock(config.checkpoint_minutes)
    if progress_fn is not None:
        progress_fn(int(now.nimg // 1000), config.total_kimg)
    print(f"Training for {config.total_kimg} kimg on {device}...\n", flush=True)
    bar = progress_bar(now.nimg, total_nimg)
    log.begin_tick(now.nimg)

    # Train.
    with contextlib.closing(bar), contextlib.closing(log):
        while True:
            done = now.nimg >= total_nimg
            if not done and stop_fn():
                break

            # Once a tick: report, and now and then keep pictures, weights and everything.
            if done or now.tick_is_over(config.kimg_per_tick * 1000):
                timer.report()
                bar.clear()
                for line in guard.report():
                    print(f"Warning: {line}", file=sys.stderr, flush=True)
                p = 0.0 if augment_pipe is None else augment_pipe.p.item()
                print(log.status(now.tick, now.nimg, p), flush=True)
                if not done and abort_fn is not None and abort_fn():
                    print("Aborting...", flush=True)
                    done = True
                if done or now.tick % config.image_snapshot_ticks == 0:
                    grids = sampler.save(G_ema, run_dir, f"fakes{now.nimg // 1000:06d}")
                    log.images({f"Fakes{suffix}": g for suffix, g in grids.items()}, now.nimg)
                if done or now.tick % config.network_snapshot_ticks == 0:
                    require_finite(networks)
                    path = run_dir / f"network-snapshot-{now.nimg // 1000:06d}.pkl"
                    save_snapshot(path, config.training_set_kwargs, **networks)
                log.write(now.nimg)
                if progress_fn is not None:
                    progress_fn(now.nimg // 1000, config.total_kimg)
                now.end_tick()
                if not done and clock.due():
                    require_finite(networks)
                    checkpoints.write_checkpoint(run_dir, now.state_dict())
                log.begin_tick(now.nimg)
            if done:
                break

            # One iteration: each phase whose turn it is takes a step.
            moment = loss.at(now.nimg)
            G.neural_rendering_resolution = moment.rendering_resolution
            for phase, batches in next(data):
                if now.batch_idx % phase.interval == 0:
                    guard.add(
                        phase.name, timer.run(phase.name, run_phase, phase, batches, now.nimg)
                    )
            beta = schedules.ema_beta(
                now.nimg, config.batch_size, config.ema_kimg, config.ema_rampup
            )
            update_ema(G_ema, G, beta)
            now.nimg += config.batch_size
            now.batch_idx += 1
            if ada is not None:
                ada.after(now.batch_idx)
            bar.update(config.batch_size)

        require_finite(networks)
        checkpoints.write_checkpoint(run_dir, now.state_dict())
    return done


def set_precision(cudnn_benchmark: bool) -> None:
    """Exact float32 products, as the published models were trained with."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    products.allow_tf32 = convolutions.allow_tf32 = False
    products.allow_fp16_reduced_precision_reduction = False
    convolutions.benchmark = cudnn_benchmark


def build_networks(
    config: TrainingConfig, training_set, device: torch.device
) -> dict[str, torch.nn.Module]:
    """G, D and augment_pipe, if there is to be one, in training mode, and G_ema. Without gradients:
    phases switch them on."""
    sizes = dict(
        c_dim=training_set.label_dim,
        img_resolution=training_set.resolution,
        img_channels=training_set.num_channels,
    )
    G = dnnlib.util.construct_class_by_name(**config.G_kwargs, **sizes)
    D = dnnlib.util.construct_class_by_name(**config.D_kwargs, **sizes)
    # Part of every published checkpoint, though nothing reads it.
    G.register_buffer("dataset_label_std", torch.tensor(training_set.get_label_std()))
    networks = dict(G=G, D=D)
    if config.augment_kwargs is not None:
        pipe = dnnlib.util.construct_class_by_name(**config.augment_kwargs)
        pipe.p.fill_(config.augment_p)
        networks["augment_pipe"] = pipe
    for network in networks.values():
        network.train().requires_grad_(False).to(device)
    return dict(networks, G_ema=make_ema(G))


def optimizers(networks: dict, phases: list[Phase]) -> dict[str, torch.optim.Optimizer]:
    """The optimizer of each network that is trained, as <network>_opt."""
    trained = {id(phase.module): phase.opt for phase in phases}
    return {f"{name}_opt": trained[id(n)] for name, n in networks.items() if id(n) in trained}


def make_ada(config: TrainingConfig, pipe: torch.nn.Module | None) -> AdaptiveStrength | None:
    """What adapts the strength of augmentation, None where it is fixed or there is none."""
    if pipe is None or config.ada_target is None:
        return None
    return AdaptiveStrength(
        pipe, config.ada_target, config.batch_size, config.ada_interval, config.ada_kimg
    )


def progress_bar(nimg: int, total_nimg: float) -> tqdm.tqdm:
    """A bar of the images shown; past the logger, since it is for a terminal, not for log.txt."""
    return tqdm.tqdm(
        initial=nimg,
        total=total_nimg,
        unit="img",
        desc="training",
        leave=False,
        disable=None,
        file=sys.__stderr__,
    )


def print_summaries(G, D, batch_gpu: int, device: torch.device) -> None:
    """Prints the modules of both networks with their parameters and output shapes."""
    z = torch.zeros([batch_gpu, G.z_dim], device=device)
    c = torch.zeros([batch_gpu, G.c_dim], device=device)
    c[:, [0, 5, 10, 15, 16, 20, 24]] = 1
    pictures = misc.print_module_summary(G, [z, c])
    misc.print_module_summary(D, [pictures, c])


def iterate_batches(
    config: TrainingConfig,
    training_set,
    phases: list[Phase],
    device: torch.device,
    rank: int,
    start: int = 0,
) -> Iterator[list[tuple[Phase, list[Batch]]]]:
    """For every iteration from number `start` on the micro-batches of each phase.

    All phases share the real images; each has latents and cameras of its own, the cameras of
    randomly chosen real images.
    """
    per_rank = config.batch_size // config.num_gpus
    loader = make_loader(config, training_set, device, rank, start * per_rank)
    z_dim = config.G_kwargs["z_dim"]
    for images, labels in _read(loader):
        images = images.to(device, non_blocking=True).to(torch.float32) / 127.5 - 1
        labels = labels.to(device, non_blocking=True)
        z = torch.randn([len(phases), per_rank, z_dim], device=device)
        picks = np.random.randint(len(training_set), size=len(phases) * per_rank)
        cameras = torch.from_numpy(np.stack([training_set.get_label(i) for i in picks]))
        if loader.pin_memory:
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


def make_loader(
    config: TrainingConfig, training_set, device: torch.device, rank: int, start: int
) -> torch.utils.data.DataLoader:
    """Reads this process's images from its number `start` on, in batches of an iteration."""
    sampler = misc.InfiniteSampler(
        training_set,
        rank=rank,
        num_replicas=config.num_gpus,
        seed=config.random_seed,
        start=start,
    )
    settings = dict(config.data_loader_kwargs)
    settings["pin_memory"] = settings.get("pin_memory", False) and device.type == "cuda"
    if not settings.get("num_workers"):
        settings.pop("prefetch_factor", None)
    return torch.utils.data.DataLoader(
        training_set,
        sampler=sampler,
        batch_size=config.batch_size // config.num_gpus,
        # Of its own: a loader that starts anew is to leave the random numbers of training alone.
        generator=torch.Generator(),
        worker_init_fn=leave_signals_to_parent,
        **settings,
    )


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


def launch(config: TrainingConfig, lock: runs.RunLock | None = None) -> bool:
    """Trains in a new run directory, or goes on in the one whose lock is given; output goes to
    log.txt too, and so does the traceback of whatever ends the run early.

    Returns whether the run has come to its end; no: a signal stopped it, after a checkpoint. Raises
    OptionError where the directory cannot be made.
    """
    with lock or runs.create(config.run_dir) as held, StopSignals() as stop:
        run_dir = held.run_dir
        checkpoints.remove_leftovers(run_dir)
        with dnnlib.util.Logger(str(run_dir / "log.txt"), "a", should_flush=True) as log:
            start = time.time()
            try:
                found = runs.prepare(config)
                print(describe(config))
                state = None if found is None else found.state
                done = training_loop(config, state=state, stop_fn=lambda: stop.received)
            except NonFiniteError as error:
                log.file.write(traceback.format_exc())
                kept = checkpoints.list_checkpoints(run_dir)
                last = f"the last good checkpoint is {kept[0]}" if kept else "no checkpoint exists"
                raise NonFiniteError(f"{error}; {last}") from None
            except BaseException:
                log.file.write(traceback.format_exc())
                raise
            if done:
                print(f"\nDone in {dnnlib.util.format_time(time.time() - start)}: {run_dir}")
            else:
                newest = checkpoints.list_checkpoints(run_dir)[0].name
                print(f"\nStopped by {stop.received}; the same command goes on from {newest}")
    return done
