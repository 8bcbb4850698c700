"""The memory of stage 2 is counted, TorchScript or not."""

from dataclasses import replace

import torch

from training import setup
from training.dataset import ImageFolderDataset
from training.estimate import count_activations


class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (self.layer(a) - self.layer(b)).abs().mean(dim=[1, 2, 3])


def test_fake_tensors_count_as_real_ones_do(tiny_config, tmp_path, cars):
    source = str(tmp_path / "pair.pt")
    torch.jit.script(Pair()).save(source)
    side = "--neural_rendering_resolution_initial=16"
    config = tiny_config("--method=mimic3d", "--stage=2", f"--lpips={source}", side)
    planes = dict(plane_resolution=16, aware3d_res=[4, 8, 16])
    config = replace(config, G_kwargs=dict(config.G_kwargs, **planes))
    training_set = ImageFolderDataset(path=str(cars), use_labels=True)
    networks = setup.build_networks(config, training_set, torch.device("cpu"))
    networks = {name: networks[name] for name in config.optimizers}
    real, fake = (count_activations(config, networks, 4, fake=each) for each in (False, True))
    assert real == fake
    assert {"D_patchmain", "D_patchreg"} <= real.keys()
