"""The processes that train one model together, and what they tell each other.

One process a device. Where there is only one, everything here does nothing.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from torch_utils import misc, training_stats

# Rank 0 writes pictures and files while the others wait for it in a collective operation.
TIMEOUT = timedelta(minutes=60)


@dataclass(frozen=True)
class World:
    """This process among its kind: `rank` of `size`, on `device`."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    control: Any = None  # a group on the CPU: what hosts agree on costs the GPUs nothing

    def __str__(self) -> str:
        return f"{self.device.type}" if self.size == 1 else f"{self.size} x {self.device.type}"

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def on_this_host(self) -> int:
        """How many of the processes share this one's memory and processors."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.size))

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replaces the tensor by its sum over all processes."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def any(self, *flags: bool) -> list[bool]:
        """Whether each flag is set in any process."""
        if self.size == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self.control)
        return votes.bool().tolist()

    def share(self, value: Any) -> Any:
        """The value that rank 0 has."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def check_agreement(self, networks: Mapping[str, torch.nn.Module]) -> None:
        """Raises AssertionError naming a tensor that differs between processes, if one does."""
        if self.size > 1:
            for network in networks.values():
                misc.check_ddp_consistency(network)


ALONE = World()


def join(rank: int = 0, size: int = 1, local_rank: int = 0) -> World:
    """Joins the other processes, whose first one is at MASTER_ADDR, MASTER_PORT.

    NCCL between GPUs, gloo between CPUs, whose cores the processes of a host share.
    """
    on_gpu = torch.cuda.is_available()
    device = torch.device("cpu")
    if on_gpu:  # Slurm may show a process its own GPU only.
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    if size == 1:
        return World(device=device)
    if not on_gpu and "OMP_NUM_THREADS" not in os.environ:
        here = World(rank, size).on_this_host
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // here))
    backend = "nccl" if on_gpu else "gloo"
    # torchrun keeps its store when it starts processes anew: addresses of dead ones are in it.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=TIMEOUT))
    store = dist.PrefixStore(f"attempt {attempt}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    control = dist.new_group(backend="gloo", timeout=TIMEOUT) if on_gpu else None
    training_stats.init_multiprocessing(rank, device if on_gpu else torch.device("cpu"))
    return World(rank, size, device, control)


def leave() -> None:
    """Leaves the other processes, after all have come to this point."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
