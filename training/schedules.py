"""What changes during training, as pure functions of the number of real images seen so far."""

import math


def _progress(nimg: float, kimg: float) -> float:
    """Share of a fade over `kimg` thousand images; a fade of no length is over at once."""
    return min(nimg / (kimg * 1000), 1.0) if kimg > 0 else 1.0


def blur_sigma(nimg: float, init_sigma: float, fade_kimg: float) -> float:
    """Standard deviation, in pixels, of the blur in front of the discriminator (EG3D appendix)."""
    return init_sigma * (1 - _progress(nimg, fade_kimg))


def swapping_prob(nimg: float, final_prob: float | None, fade_kimg: float) -> float | None:
    """Probability that the generator is conditioned on another sample's camera (EG3D section 4.4).

    Fades from 1 to `final_prob`; None: the generator is not conditioned on cameras.
    """
    if final_prob is None:
        return None
    done = _progress(nimg, fade_kimg)
    return (1 - done) + done * final_prob


def rendering_resolution(nimg: float, initial: int, final: int | None, fade_kimg: float) -> int:
    """Side of the raw rendering: fades linearly from `initial` to `final` (EG3D section 5)."""
    if final is None:
        return initial
    done = _progress(nimg, fade_kimg)
    return round(initial * (1 - done) + final * done)


def ema_beta(nimg: float, batch_size: int, ema_kimg: float, ema_rampup: float | None) -> float:
    """Weight of the old average of the generator's weights in one update.

    The half-life is `ema_kimg` thousand images, at first at most `ema_rampup` of those seen.
    """
    half_life = ema_kimg * 1000
    if ema_rampup is not None:
        half_life = min(half_life, nimg * ema_rampup)
    return 0.5 ** (batch_size / max(half_life, 1e-8))


def lazy_optimizer_kwargs(opt_kwargs: dict, interval: float | None) -> dict:
    """Adam's settings for an optimizer that takes one step more every `interval` iterations.

    Lazy regularisation (StyleGAN2, appendix B): learning rate and betas are adjusted by
    interval / (interval + 1), so that the extra step does not speed training up.
    """
    ratio = 1.0 if interval is None else interval / (interval + 1)
    betas = [float(beta) ** ratio for beta in opt_kwargs["betas"]]
    return dict(opt_kwargs, lr=opt_kwargs["lr"] * ratio, betas=betas)


def ada_p(
    p: float, mean_sign: float, target: float, batch_size: int, interval: int, ada_kimg: float
) -> float:
    """Strength p of augmentation after `interval` more batches (StyleGAN2-ADA, section 3).

    Rises where D is surer of real images than wanted, i.e. the mean sign of its logits for them is
    above `target`, and falls below; by 1 in `ada_kimg` thousand images, and not below 0. There is
    no upper limit, as published. Nothing changes where no image was judged (NaN).
    """
    direction = (mean_sign > target) - (mean_sign < target)
    return max(p + direction * batch_size * interval / (ada_kimg * 1000), 0.0)


def blur_taps(sigma: float) -> list[float] | None:
    """Normalised taps 2^(-(k / sigma)^2) of the blur, |k| <= floor(3 sigma); None where empty."""
    reach = math.floor(sigma * 3)
    if reach <= 0:
        return None
    taps = [2.0 ** (-((k / sigma) ** 2)) for k in range(-reach, reach + 1)]
    total = sum(taps)
    return [tap / total for tap in taps]
