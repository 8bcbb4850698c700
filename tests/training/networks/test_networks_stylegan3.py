"""The names of StyleGAN3 exist, do nothing, and stand in the way of nothing."""

import inspect
import pickle

import pytest
import torch

from torch_utils import persistence
from training import networks_stylegan2, networks_stylegan3

CLASSES = [name for name in networks_stylegan3.__all__ if name != "modulated_conv2d"]


def meta(name, module_src):
    return {
        "type": "class",
        "version": 6,
        "module_src": module_src,
        "class_name": name,
        "state": torch.nn.Module().__dict__,
    }


def test_all_names_of_the_table_are_here():
    assert set(CLASSES) == set(persistence._CLASSES["training.networks_stylegan3"])


@pytest.mark.parametrize("name", CLASSES)
def test_constructing_is_refused(name):
    cls = getattr(networks_stylegan3, name)
    assert inspect.isclass(cls) and issubclass(cls, torch.nn.Module)
    assert (cls.__name__, cls.__module__) == (name, "training.networks_stylegan3")
    for arguments in ((), (512, 3)):
        with pytest.raises(NotImplementedError, match=rf"networks_stylegan3\.{name} is only a"):
            cls(*arguments, w_dim=1)


def test_calling_is_refused():
    x = torch.zeros(1, 1, 1, 1)
    with pytest.raises(NotImplementedError, match="StyleGAN3 is not implemented"):
        networks_stylegan3.modulated_conv2d(x, w=x, s=x, input_gain=None)


@pytest.mark.parametrize("name", CLASSES)
def test_names_lead_to_stylegan2_unless_a_file_says_otherwise(name):
    own = persistence._reconstruct_persistent_obj(
        meta(name, "from training.networks_stylegan3 import *\n")
    )
    assert type(own) is getattr(networks_stylegan3, name)
    assert type(pickle.loads(pickle.dumps(own))) is type(own)
    published = persistence._reconstruct_persistent_obj(meta(name, "the text of some module"))
    home = networks_stylegan2 if hasattr(networks_stylegan2, name) else networks_stylegan3
    assert type(published) is getattr(home, name)
