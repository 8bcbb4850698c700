"""The states of the random number generators that training draws from."""

import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict:
    """States of Python, NumPy, torch on the CPU, and torch on `device` if it is a GPU, as plain
    containers and tensors."""
    version, words, python_spare = random.getstate()
    kind, keys, *numpy_rest = np.random.get_state()
    state = dict(
        python=[version, list(words), python_spare],
        numpy=[kind, keys.tolist(), *numpy_rest],
        cpu=torch.get_rng_state(),
    )
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict, device: torch.device) -> None:
    """Restores what `random_state` returned; a GPU's only where both were on one."""
    version, words, python_spare = state["python"]
    random.setstate((version, tuple(words), python_spare))
    kind, keys, *numpy_rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *numpy_rest))
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
