"""Starting a run from the weights of a snapshot, as fine-tuning does."""

import sys
from collections.abc import Mapping

import torch
from torch import Tensor

from torch_utils import misc
from training.config import OptionError
from training.network_files import NetworkFileError, read_networks
from training.synthesis import fitted

STAND_INS = {"G": "G_ema", "G_ema": "G"}


def start_from_snapshot(networks: Mapping[str, torch.nn.Module], source: str) -> None:
    """Copies the parameters and buffers of networks that a file or web address has too.

    Where one of G and G_ema is missing the other stands in for it; another network that is missing,
    such as D, stays as it is, and a line says so. Raises OptionError where the file cannot be read,
    or does not fit.
    """
    found = read_tensors(source)
    for name in networks:
        if name == "augment_pipe":  # its strength is an option
            continue
        tensors = found.get(name, found.get(STAND_INS.get(name, "")))
        if tensors is None:
            print(f"Warning: {source} has no {name}: it starts from nothing", file=sys.stderr)
        else:
            _copy(tensors, networks[name], f"--resume={source}: {name}")


def read_tensors(source: str) -> dict[str, Mapping[str, Tensor]]:
    """The tensors of each network of a file or web address. Raises OptionError where it cannot be
    read, or has no generator."""
    try:
        file = read_networks(source)
    except (NetworkFileError, OSError) as error:
        raise OptionError(f"--resume: {error}") from None
    if not {"G", "G_ema"} & file.records.keys():
        raise OptionError(f"--resume={source}: has neither G nor G_ema")
    return {name: record.tensors for name, record in file.records.items()}


@torch.no_grad()
def _copy(tensors: Mapping[str, Tensor], network: torch.nn.Module, where: str) -> None:
    targets = dict(misc.named_params_and_buffers(network))
    common = [name for name in targets if name in tensors]
    if not common:
        raise OptionError(f"{where} has other tensors than this run's: it is another network")
    tensors = {name: fitted(name, tensors[name], targets[name].shape) for name in common}
    misfits = [name for name in common if tensors[name].shape != targets[name].shape]
    if misfits:
        name, more = misfits[0], f", and {len(misfits) - 1} more" if misfits[1:] else ""
        there, here = list(tensors[name].shape), list(targets[name].shape)
        raise OptionError(
            f"{where} was made with other options: {name} has the shape {there}, here it has "
            f"{here}{more}"
        )
    for name in common:
        targets[name].copy_(tensors[name])
