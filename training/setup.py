"""What a run consists of, made from its configuration."""

import os
import sys

import torch
import tqdm

import dnnlib
from torch_utils import misc, training_stats
from torch_utils.graphs import cuda_recorder
from torch_utils.ops.choice import set_ops
from training import image_grid
from training.ada import AdaptiveStrength
from training.config import TrainingConfig
from training.phase_graphs import PhaseGraphs
from training.phases import GradientAdder, Phase, add_gradients, make_ema
from training.snapshots import Sampler

Networks = dict[str, torch.nn.Module]


def set_arithmetic(config: TrainingConfig) -> None:
    """Float32 products exact, as the published models were trained with, or with mantissas of 10
    bits on a GPU (`tf32`); sums in an order of their own each time, or not (`deterministic`);
    kernels of Triton or plain torch (`ops`), where "auto" leaves it to `EG3D_OPS`."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    products.allow_tf32 = convolutions.allow_tf32 = config.tf32
    products.allow_fp16_reduced_precision_reduction = False
    convolutions.benchmark = config.cudnn_benchmark
    convolutions.deterministic = config.deterministic
    set_ops(None if config.ops == "auto" else config.ops)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if config.deterministic or torch.are_deterministic_algorithms_enabled():  # It takes seconds.
        # Where no other way exists a warning says so.
        torch.use_deterministic_algorithms(config.deterministic, warn_only=True)


def compile_generator(G: torch.nn.Module) -> None:
    """Compiles G's synthesis, a block at a time. D cannot be: R1 needs its second derivatives."""
    blocks = [*G.backbone.synthesis.children()]
    if G.superresolution is not None:
        blocks += G.superresolution.children()
    # All blocks share one function, which is compiled for each, training and not.
    torch._dynamo.config.recompile_limit = max(
        torch._dynamo.config.recompile_limit, 4 * len(blocks)
    )
    for block in blocks:
        block.compile()


def build_networks(config: TrainingConfig, training_set, device: torch.device) -> Networks:
    """G, D, what the method trains besides, and augment_pipe, if there is to be one, in training
    mode, and G_ema. Without gradients: phases switch them on."""
    sizes = dict(
        c_dim=training_set.label_dim,
        img_resolution=training_set.resolution,
        img_channels=training_set.num_channels,
    )
    G = dnnlib.util.construct_class_by_name(**{**sizes, **config.G_kwargs})
    D = dnnlib.util.construct_class_by_name(**{**sizes, **config.D_kwargs})
    # Part of every published checkpoint, though nothing reads it.
    G.register_buffer("dataset_label_std", torch.tensor(training_set.get_label_std()))
    networks = dict(G=G, D=D)
    for name, settings in config.extra_networks.items():
        networks[name] = dnnlib.util.construct_class_by_name(**settings["kwargs"])
    if config.augment_kwargs is not None:
        pipe = dnnlib.util.construct_class_by_name(**config.augment_kwargs)
        pipe.p.fill_(config.augment_p)
        networks["augment_pipe"] = pipe
    for network in networks.values():
        network.train().requires_grad_(False).to(device)
    return dict(networks, G_ema=make_ema(G))


def make_loss(config: TrainingConfig, networks: Networks):
    """The loss of a run: `at(nimg)` gives its schedules, `trained()` who is trained by what."""
    names = ("G", "D", "augment_pipe", *config.extra_networks)
    given = {name: networks.get(name) for name in names}
    return dnnlib.util.construct_class_by_name(**given, **config.loss_kwargs)


def gradient_adder(config: TrainingConfig, loss, tracked: list[torch.Tensor]) -> GradientAdder:
    """How gradients of micro-batches are computed: plainly, or by CUDA graphs where that is asked
    for and there is a GPU. A line says so where there is none."""
    device = next(loss.G.parameters()).device
    if not config.cuda_graphs:
        return add_gradients
    if device.type != "cuda":
        print("No GPU, no CUDA graphs", flush=True)
        return add_gradients
    return PhaseGraphs(loss.at, cuda_recorder(device), tracked).add_gradients


def tracked_means(networks: Networks) -> list[torch.Tensor]:
    """The means that networks track while they are trained, such as that of w."""
    return [
        buffer
        for name, network in networks.items()
        for key, buffer in network.named_buffers()
        if key.rpartition(".")[2] == "w_avg" and name != "G_ema"
    ]


def optimizers(networks: Networks, phases: list[Phase]) -> dict[str, torch.optim.Optimizer]:
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


def make_sampler(config: TrainingConfig, training_set, device: torch.device):
    """The fixed pictures to watch, and the real ones [N, C, H, W] whose cameras they share."""
    grid_size, images, labels = image_grid.setup_snapshot_image_grid(
        training_set, config.random_seed, config.image_grid
    )
    z = torch.randn([len(labels), config.G_kwargs["z_dim"]], device=device)
    c = torch.from_numpy(labels).to(device)
    return Sampler(z, c, grid_size, chunk=config.batch_gpu), images


def print_summaries(loss, G, D, batch_gpu: int, device: torch.device) -> None:
    """Prints the modules of G and D with their parameters and output shapes."""
    z = torch.zeros([batch_gpu, G.z_dim], device=device)
    c = torch.zeros([batch_gpu, G.c_dim], device=device)
    c[:, [0, 5, 10, 15, 16, 20, 24]] = 1
    pictures = misc.print_module_summary(G, [z, c])
    misc.print_module_summary(D, loss.example(pictures, c))


def progress_bar(nimg: int, total_nimg: float, shown: bool) -> tqdm.tqdm:
    """A bar of the images shown; past the logger, since it is for a terminal, not for log.txt."""
    return tqdm.tqdm(
        initial=nimg,
        total=total_nimg,
        unit="img",
        desc="training",
        leave=False,
        disable=None if shown else True,
        file=sys.__stderr__,
    )


class SilentLog:
    """The `RunLog` of the processes that write nothing: takes part in adding up statistics."""

    def __init__(self) -> None:
        self.collector = training_stats.Collector()

    def begin_tick(self, nimg: int) -> None:
        """Nothing to note."""

    def status(self, tick: int, nimg: int, augment_p: float = 0) -> str:
        """Nothing to say."""
        return ""

    def write(self, nimg: int, extra: dict[str, float] | None = None) -> None:
        """Gives the other processes what this one has reported."""
        self.collector.update()

    def close(self) -> None:
        """Nothing is open."""
