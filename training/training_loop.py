"""The training loop: one function in execution order."""

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

import dnnlib
from metrics.in_training import RunMetrics
from torch_utils import training_stats
from training import checkpoints, estimate, health, image_grid, schedules, setup
from training.config import TrainingConfig
from training.guard import Guard, require_finite
from training.image_source import make_source
from training.index_order import iteration_indices
from training.micro_batches import draw_batches, running_sum, seed_everything, split_reals
from training.phases import make_phases, run_phase, update_ema
from training.reporting import PhaseTimer, RunLog
from training.sampling_weights import sampling_weights
from training.snapshots import save_snapshot
from training.starting import start_from_snapshot
from training.world import ALONE, World


def training_loop(
    config: TrainingConfig,
    world: World = ALONE,
    abort_fn: Callable[[], bool] | None = None,
    progress_fn: Callable[[int, int], None] | None = None,
    state: dict | None = None,
    stop_fn: Callable[[], object] = lambda: None,
) -> bool:
    """Trains a model as `config` says and fills `config.run_dir`, which must exist.

    All processes of `world` call it; the first one writes.

    Args:
        abort_fn: asked once a tick; True ends the run after the tick's snapshots.
        progress_fn: told (kimg so far, kimg in all).
        state: of the checkpoint to go on from, see `training.checkpoints.Progress`.
        stop_fn: asked before every iteration; True in any process ends the run at once, with a
            checkpoint.

    Returns whether the run has come to its end; no: `stop_fn` stopped it. Raises NonFiniteError
    when too much of a tick, or a network that is to be written, is not finite.
    """
    start_time = time.time()
    device, run_dir = world.device, Path(config.run_dir)
    setup.set_arithmetic(config)
    seed_everything(config.random_seed)

    # Set up: data, networks, phases.
    training_set = dnnlib.util.construct_class_by_name(**config.training_set_kwargs)
    cameras = torch.from_numpy(training_set.all_labels()).to(device)
    weights = sampling_weights(training_set, config.rebalance)
    ends = running_sum(weights)
    networks = setup.build_networks(config, training_set, device)
    G, D, G_ema = (networks[name] for name in ("G", "D", "G_ema"))
    augment_pipe = networks.get("augment_pipe")
    if config.resume_pkl is not None and state is None:
        print(f"Starting from the weights of {config.resume_pkl}", flush=True)
        start_from_snapshot(networks, config.resume_pkl)
    if config.compile == "generator":
        setup.compile_generator(G)
    loss = setup.make_loss(config, networks)
    phases = make_phases(loss.trained(), config.optimizers, config.reg_intervals)
    tracked = setup.tracked_means(networks)
    add = setup.gradient_adder(config, loss, tracked)
    guard = Guard({p.name: [name for name, _ in p.trained()] for p in phases}, config.nan_limit)
    ada = setup.make_ada(config, augment_pipe)
    timer = PhaseTimer(device)
    total_nimg = config.total_kimg * 1000
    mature_kimg = health.first_judgement(config.total_kimg, config.loss_kwargs["blur_fade_kimg"])

    # Set up: what the run writes.
    parts = dict(networks, statistics=training_stats, guard=guard)
    parts |= setup.optimizers(networks, phases) | ({} if ada is None else {"ada": ada})
    if world.is_first:
        G.neural_rendering_resolution = loss.at(0).rendering_resolution
        setup.print_summaries(loss, G, D, config.batch_gpu, device)
        sampler, reals = setup.make_sampler(config, training_set, device)
        image_grid.save_image_grid(reals, run_dir / "reals.png", (0, 255), sampler.grid_size)
        log = RunLog(run_dir, device, total_nimg, start_time, config.wandb, asdict(config))
        parts |= dict(sampler=sampler, log=log)
    else:
        log = setup.SilentLog()

    # Set up: where it is. What `parts` hold is all that changes from here on.
    now = checkpoints.Progress(parts)
    if state is not None:
        now.load_state_dict(state, world.is_first)
        moment = loss.at(max(now.nimg - config.batch_size, 0))
        G_ema.neural_rendering_resolution = moment.rendering_resolution
    world.check_agreement(networks)
    workers, ahead = (config.data_loader_kwargs[k] for k in ("num_workers", "prefetch_factor"))
    source = make_source(
        training_set, device, config.cache, workers, ahead, world.on_this_host, world.is_first
    )
    data = source.read(
        iteration_indices(
            len(training_set),
            config.batch_size,
            config.random_seed,
            now.batch_idx,
            world.rank,
            world.size,
            config.batch_gpu,
            weights=weights,
        )
    )
    metrics = RunMetrics(
        config.metrics,
        config.training_set_kwargs,
        run_dir,
        world.rank,
        world.size,
        device,
        networks=config.metric_networks or {},
        workers=workers,
    )
    clock = checkpoints.Clock(config.checkpoint_minutes)
    if progress_fn is not None:
        progress_fn(int(now.nimg // 1000), config.total_kimg)
    if world.is_first and total_nimg >= 50 * config.batch_size:
        print("\n".join(estimate.announce(config, phases, now.nimg, world.size)), flush=True)
    print(f"Training for {config.total_kimg} kimg on {world}...\n", flush=True)
    bar = setup.progress_bar(now.nimg, total_nimg, world.is_first)
    log.begin_tick(now.nimg)

    def say(line: str) -> None:
        if world.is_first:
            print(line, file=sys.stderr, flush=True)

    def examine() -> dict[str, float]:
        if not world.is_first:
            return {}
        measures = health.Health(sampler.z[:8], sampler.c[:8]).measure(G_ema)
        for line in health.warnings(measures, now.nimg / 1000, mature_kimg):
            say(f"Warning: {line}")
        return measures

    def write_snapshot() -> str:
        require_finite(networks)
        world.check_agreement(networks)
        name = f"network-snapshot-{now.nimg // 1000:06d}.pkl"
        if world.is_first:
            save_snapshot(run_dir / name, config.training_set_kwargs, **networks)
        return name

    def write_checkpoint() -> None:
        require_finite(networks)
        training_stats.synchronize()
        if world.is_first:
            checkpoints.write_checkpoint(run_dir, now.state_dict())

    # Train.
    with contextlib.closing(bar), contextlib.closing(log), contextlib.closing(source):
        while True:
            done = now.nimg >= total_nimg
            if not done and world.any(bool(stop_fn()))[0]:
                break

            # Once a tick: report, and now and then keep pictures, weights and everything.
            if done or now.tick_is_over(config.kimg_per_tick * 1000):
                timer.report()
                training_stats.report0("Timing/loader_wait", source.take_wait() * 1000)
                bar.clear()
                for line in guard.report():
                    say(f"Warning: {line}")
                p = 0.0 if augment_pipe is None else augment_pipe.p.item()
                print(log.status(now.tick, now.nimg, p), flush=True)
                aborted, due = world.any(
                    world.is_first and abort_fn is not None and abort_fn(),
                    world.is_first and clock.due(),
                )
                if aborted and not done:
                    print("Aborting...", flush=True)
                    done = True
                if world.is_first and (done or now.tick % config.image_snapshot_ticks == 0):
                    grids = sampler.save(G_ema, run_dir, f"fakes{now.nimg // 1000:06d}")
                    log.images({f"Fakes{suffix}": g for suffix, g in grids.items()}, now.nimg)
                measures = {}
                if done or now.tick % config.network_snapshot_ticks == 0:
                    found = metrics.evaluate(G_ema, write_snapshot())
                    measures = {f"Metrics/{name}": value for name, value in found.items()}
                log.write(now.nimg, measures | examine())
                if progress_fn is not None:
                    progress_fn(now.nimg // 1000, config.total_kimg)
                now.end_tick()
                if due and not done:
                    write_checkpoint()
                log.begin_tick(now.nimg)
            if done:
                break

            # One iteration: each phase whose turn it is takes a step.
            moment = loss.at(now.nimg)
            G.neural_rendering_resolution = moment.rendering_resolution
            reals = split_reals(*next(data), config.batch_gpu, world.rank)
            for number, phase in enumerate(phases):
                if now.batch_idx % phase.interval == 0:
                    seed = (config.random_seed, now.batch_idx, number)
                    batches = draw_batches(reals, cameras, G.z_dim, seed, ends)
                    check = timer.run(
                        phase.name, run_phase, phase, batches, now.nimg, world, tracked, add
                    )
                    guard.add(phase.name, check)
            beta = schedules.ema_beta(
                now.nimg, config.batch_size, config.ema_kimg, config.ema_rampup
            )
            update_ema(G_ema, G, beta)
            now.nimg += config.batch_size
            now.batch_idx += 1
            if ada is not None:
                ada.after(now.batch_idx)
            bar.update(config.batch_size)
        write_checkpoint()
    return done
