"""How alike two pictures are: squared difference, PSNR, and what a trained network sees."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from eg3d.errors import InputError
from metrics.detectors import ForeignNetwork, load_network
from metrics.errors import MetricError

_LARGEST = 256  # side of the pictures that networks are shown (Karras et al. 2020, appendix D)

Distance = Callable[[torch.Tensor], torch.Tensor]


class Likeness:
    """Distances of pictures [1, 3, R, R] from a target of this shape, all in [-1, 1]."""

    def __init__(self, target: torch.Tensor, perceptual: "Perceptual | None" = None):
        self.target = target
        self._seen = perceptual.to(target) if perceptual else None

    def terms(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """'l2', the mean squared difference, and with a network 'perceptual'; scalars."""
        terms = {"l2": (image - self.target).square().mean()}
        if self._seen is not None:
            terms["perceptual"] = self._seen(image)
        return terms

    def psnr(self, image: torch.Tensor) -> float:
        """Peak signal-to-noise ratio in dB of what can be shown of a picture: -1 to 1."""
        error = (image.detach().clamp(-1, 1) - self.target).square().mean().clamp(min=1e-12)
        return 10 * torch.log10(4 / error).item()


class Perceptual:
    """The distance of pictures that a TorchScript network sees.

    What the network offers decides which: an argument `return_lpips`, as that of the published
    VGG16, gives features of pictures 0 to 255 whose squared distance is LPIPS (Zhang et al. 2018);
    two pictures in [-1, 1] as arguments give the distance itself, as LPIPS does; any other network
    (of `metrics.detectors`) gives features, whose squared distance is divided by the square of the
    target's features. Pictures of more than 256 pixels are averaged down to that.
    """

    def __init__(self, network: ForeignNetwork):
        self.name = network.name
        self._module = network.module
        self._arguments = network.module.forward.schema.arguments[1:]

    def to(self, target: torch.Tensor) -> Distance:
        """The distance [] from a target [1, 3, R, R], as a function of a picture of that shape."""
        needed = [argument for argument in self._arguments if not argument.has_default_value()]
        between = self._between if len(needed) == 2 else self._between_features
        return between(_shown(target))

    def _between(self, target: torch.Tensor) -> Distance:
        return lambda image: self._module(_shown(image), target).mean()

    def _between_features(self, target: torch.Tensor) -> Distance:
        names = {argument.name for argument in self._arguments}
        lpips = "return_lpips" in names
        how = dict(resize_images=False, return_lpips=True) if lpips else {}
        if not lpips and "return_features" in names:
            how = dict(return_features=True)

        def features(image: torch.Tensor) -> torch.Tensor:
            return self._module((image + 1) * 127.5, **how).flatten()

        goal = features(target).detach()
        scale = 1 if lpips else goal.square().sum().clamp(min=1e-12)
        return lambda image: (features(_shown(image)) - goal).square().sum() / scale


def load_perceptual(source: str, resolution: int, device: torch.device | str = "cpu") -> Perceptual:
    """The network of a TorchScript file, by path or web address, tried on pictures of a resolution.

    Raises InputError where it gives no distance, or none with a gradient.
    """
    try:
        network = load_network("vgg16", source, device)
    except MetricError as error:
        raise InputError(f"perceptual network: {error}") from error
    if not isinstance(network.module, torch.jit.ScriptModule):
        raise InputError(f"perceptual network {source}: must be a TorchScript file, VGG16 or LPIPS")
    perceptual = Perceptual(network)
    probe = torch.zeros(1, 3, resolution, resolution, device=device)
    try:
        distance = perceptual.to(probe)(probe.clone().requires_grad_())
        usable = distance.ndim == 0 and distance.requires_grad
    except Exception as error:  # a module may raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise InputError(f"perceptual network {source}: {reason}") from error
    if not usable:
        raise InputError(f"perceptual network {source}: gives no distance with a gradient")
    return perceptual


def _shown(image: torch.Tensor) -> torch.Tensor:
    return F.interpolate(image, size=_LARGEST, mode="area") if image.shape[2] > _LARGEST else image
