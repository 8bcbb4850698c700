"""torchmetrics and torch-fidelity, for their formulas alone.

Both import torchvision, which they need for networks and pictures, and whose usual build does not
go with a torch for CPUs; here a stand-in takes its place.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from unittest import mock

import numpy as np
import torch


class _NoTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules without content under the name of torchvision."""

    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return _Empty(spec.name)

    def exec_module(self, module):
        pass


class _Empty(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return mock.MagicMock()


_finder = _NoTorchvision()
sys.meta_path.insert(0, _finder)
try:
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance
finally:
    sys.meta_path.remove(_finder)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]


class Rows(torch.nn.Module):
    """Takes features for pictures: they are their own features."""

    def __init__(self, size: int):
        super().__init__()
        self.num_features = size

    def forward(self, rows):
        return rows


def torchmetrics_fid(real: torch.Tensor, fake: torch.Tensor) -> float:
    metric = FrechetInceptionDistance(feature=Rows(real.shape[1]), input_img_size=real.shape[1:])
    metric = metric.set_dtype(torch.float64)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    return float(metric.compute())


def torchmetrics_kid(real: torch.Tensor, fake: torch.Tensor, subset_size: int) -> float:
    metric = KernelInceptionDistance(
        feature=Rows(real.shape[1]), subsets=3, subset_size=subset_size
    )
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    return float(metric.compute()[0])


def torchmetrics_is(logits: torch.Tensor, splits: int) -> tuple[float, float]:
    """Of rows that lie in equal proportions in each part: it shuffles them."""
    metric = InceptionScore(feature=Rows(logits.shape[1]), splits=splits)
    metric.update(logits.double())
    return tuple(float(x) for x in metric.compute())


def fidelity_fid(real: torch.Tensor, fake: torch.Tensor, n_minus_1: bool = False) -> float:
    def moments(rows):
        rows = rows.double().numpy()
        return dict(mu=rows.mean(0), sigma=np.cov(rows.T, bias=not n_minus_1))

    found = fid_statistics_to_metric(moments(real), moments(fake), verbose=False)
    return found["frechet_inception_distance"]


def fidelity_kid(real, fake, subsets: int, subset_size: int, seed: int) -> float:
    settings = dict(kid_subsets=subsets, kid_subset_size=subset_size, rng_seed=seed, verbose=False)
    found = kid_features_to_metric(fake.double(), real.double(), **settings)
    return found["kernel_inception_distance_mean"]


def fidelity_is(logits: torch.Tensor, splits: int) -> tuple[float, float]:
    found = isc_features_to_metric(logits, splits=splits, shuffle=False)
    return found["inception_score_mean"], found["inception_score_std"]


def fidelity_precision_recall(real, fake, neighbours: int) -> tuple[float, float]:
    settings = dict(prc_neighborhood=neighbours, prc_batch_size=40, verbose=False)
    found = prc_features_to_metric(fake, real, **settings)
    return found["precision"], found["recall"]
