"""The register of methods: records say what there is, and importing it imports no network."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train
from tests.published import StandIn, published_bytes
from torch_utils import persistence
from training import config as configuration
from training import methods
from training.dataset import ImageFolderDataset
from training.presets import Preset

OTHERS = [method for name, method in methods.all_methods().items() if name != methods.DEFAULT]
IDS = [method.name for method in OTHERS]
of_each = pytest.mark.parametrize("method", OTHERS, ids=IDS)


def modules_of(method):
    """All modules of a method's folder."""
    folder = Path(importlib.import_module(f"training.{method.name}").__file__).parent
    names = [path.stem for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    return [importlib.import_module(f"training.{method.name}.{name}") for name in names]


@of_each
def test_every_persistent_class_is_registered(method):
    found = {
        (module.__name__, name)
        for module in modules_of(method)
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and persistence.is_persistent(value)
    }
    assert found == {(module, name) for module, names in method.classes.items() for name in names}


@of_each
def test_parts_are_there(method):
    parts = methods.parts(method.name)
    assert set(parts.PRESETS) == set(method.cfgs)
    assert all(isinstance(preset, Preset) for preset in parts.PRESETS.values())
    assert callable(parts.settings) and callable(parts.check)
    for name, module in method.plain_classes.items():
        assert issubclass(getattr(importlib.import_module(module), name), torch.nn.Module)
    shared = {p.name for p in train.main.params} - {n for m in OTHERS for n in m.own_options}
    assert method.ignored <= shared and not method.own_options & shared


@of_each
def test_importers_are_functions(method):
    for importer in method.importers:
        module, _, function = importer.function.partition(":")
        assert module.startswith(f"training.{method.name}.")
        assert callable(getattr(importlib.import_module(module), function))


def config_of(cars, method):
    line = [f"--data={cars}", "--outdir=o", "--cfg=demo", f"--method={method}"]
    params = train.main.make_context("train", line).params
    opts = configuration.with_preset(params, {"data", "outdir", "cfg", "method"})
    return configuration.build_config(opts, ImageFolderDataset(path=cars, use_labels=True))


@of_each
def test_method_changes_what_is_trained(method, cars):
    one, other = config_of(cars, methods.DEFAULT), config_of(cars, method.name)
    assert (one.G_kwargs, one.loss_kwargs) != (other.G_kwargs, other.loss_kwargs)


def test_reading_an_ordinary_file_imports_no_part_of_a_method(tmp_path):
    """Their records are enough to see that a file is none of theirs."""
    path = tmp_path / "plain.pkl"
    tensors = {"fc0.weight": torch.zeros(1)}
    path.write_bytes(published_bytes(dict(D=StandIn("Discriminator", tensors, {}, {}))))
    code = (
        "import sys; from training import methods, network_files\n"
        f"network_files.read_networks({str(path)!r})\n"
        "own = tuple(f'training.{name}.' for name in methods.all_methods())\n"
        "print([name for name in sys.modules if name.startswith(own)])"
    )
    root = Path(train.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "[]", done.stderr
