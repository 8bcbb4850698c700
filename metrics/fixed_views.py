"""Identities that a metric looks at from several cameras: made once, and always seen alike."""

from collections.abc import Callable

from torch import Tensor

from metrics.fakes import with_class
from metrics.options import MetricOptions
from metrics.samples import latents
from training.volumetric_rendering.draws import FixedDraws


def fixed_views(
    options: MetricOptions, indices: range, condition: Tensor
) -> Callable[[Tensor], dict[str, Tensor]]:
    """The identities with some successive numbers, conditioned on cameras [n, 25], of classes as of
    `metrics.fakes.with_class`, or on labels with classes.

    Returns a function of cameras [n, 25], or of any number for a single identity, which gives what
    `G.render` returns, both pictures clamped to [-1, 1]. Samples along rays are fixed and noise is
    constant, whatever `options.G_kwargs` say.
    """
    G, mapping = options.G, options.truncation
    kwargs = {k: v for k, v in options.G_kwargs.items() if k not in (*mapping, "draws")}
    kwargs["noise_mode"] = "const"
    side = kwargs.pop("neural_rendering_resolution", None)
    rendering = dict(G.rendering_kwargs)
    if rendering["superresolution_noise_mode"] == "random":
        rendering["superresolution_noise_mode"] = "const"
    z = latents(indices, G.z_dim, options.seed).to(options.device)
    ws = G.mapping(z, with_class(options, indices, condition.to(z)), **mapping)
    planes = G.planes(ws, **kwargs)

    def look(c: Tensor) -> dict[str, Tensor]:
        many = (values.expand(len(c), *values.shape[1:]) for values in (planes, ws))
        view = G.render(*many, c.to(z), side, FixedDraws(), rendering, **kwargs)
        return view | {name: view[name].clamp(-1, 1) for name in ("image", "image_raw")}

    return look
