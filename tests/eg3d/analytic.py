"""Scenes whose density and colour are known: ellipsoids made by hand of planes and a decoder."""

import torch

from eg3d.scene import Scene

SIDE = 256  # of the planes, whose look-up is off by 1e-5 at most between texels


def ellipsoid(generator, radii=(0.3, 0.3, 0.3), centre=(0.0, 0.0, 0.0), level=10.0, slope=20.0):
    """A scene whose density is `level` on an ellipsoid and level + slope (1 - r^2) at r radii.

    Colours rise with x, y and z from 0 to 1 across the box: 1 / (1 + exp(-8 x / box_warp)). Outside
    the box it is empty. The generator's decoder is overwritten; its hidden layer works where
    softplus(h) = h, above 20.
    """
    box = float(generator.rendering_kwargs["box_warp"])
    texels = ((torch.arange(SIDE) + 0.5) / SIDE - 0.5) * box
    x, y, z = (((texels - c) / r) ** 2 for c, r in zip(centre, radii, strict=True))
    planes = torch.zeros(1, 3, 32, SIDE, SIDE)  # the first sees (x, y), the second (x, z)
    planes[0, 0, 0] = (x.max() - x)[None, :] + (y.max() - y)[:, None]
    planes[0, 1, 0] = (z.max() - z)[:, None]
    planes[0, 0, 1], planes[0, 0, 2] = texels[None, :], texels[:, None]
    planes[0, 1, 3] = texels[:, None]

    hidden, _, output = generator.decoder.net
    with torch.no_grad():
        for layer in (hidden, output):
            layer.weight.zero_()
            layer.bias.fill_(30)
        for unit in range(4):  # h = 30 + sum over the planes
            hidden.weight[unit, unit] = 3 / hidden.weight_gain
        output.weight[0, 0] = slope / output.weight_gain
        output.bias[0] = level + slope * (1 - x.max() - y.max() - z.max() - 30)
        for axis in (1, 2, 3):
            output.weight[axis, axis] = 8 / box / output.weight_gain
            output.bias[axis] = -8 / box * 30
    return Scene(planes, torch.zeros(1, 1, 16), generator)


def sphere_colors(points, box):
    """Colours [V, 3] that `ellipsoid` has at points [V, 3]."""
    return 1.002 * torch.sigmoid(8 / box * torch.as_tensor(points)) - 0.001
