"""The random numbers of recorded reference runs, in place of torch's."""

from contextlib import contextmanager

import torch


@contextmanager
def recorded_draws(monkeypatch):
    """Within: uniform draws are frac(i * golden ratio), i = 1, 2, ... in flat order of the shape,
    normal draws their quantiles, whole numbers below k the floor of k times them; restarted every
    call."""

    def uniform(shape, dtype, device):
        shape = torch.Size(shape)
        i = torch.arange(1, shape.numel() + 1, dtype=torch.float64)
        u = (i * 0.6180339887498949).frac().reshape(shape)
        return u.to(dtype=dtype or torch.float32, device=device)

    def normal(shape, dtype, device):
        u = uniform(shape, torch.float64, "cpu")
        x = 2**0.5 * torch.erfinv(2 * u - 1)
        return x.to(dtype=dtype or torch.float32, device=device)

    def of_shape(draw):
        def call(*size, dtype=None, device=None, generator=None, **_):
            size = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
            return draw(size, dtype, device)

        return call

    def alike(draw):
        return lambda x, **_: draw(x.shape, x.dtype, x.device)

    def whole(low, high, size=None, **_):
        low, high, size = (0, low, high) if size is None else (low, high, size)
        return low + (uniform(size, torch.float64, "cpu") * (high - low)).floor().long()

    with monkeypatch.context() as patch:
        patch.setattr(torch, "rand", of_shape(uniform))
        patch.setattr(torch, "randint", whole)
        patch.setattr(torch, "randn", of_shape(normal))
        patch.setattr(torch, "rand_like", alike(uniform))
        patch.setattr(torch, "randn_like", alike(normal))
        yield
