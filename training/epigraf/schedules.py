"""What EpiGRAF changes during training, as functions of the number of real images seen so far.

The probability of pose swapping is `training.schedules.swapping_prob`, which is the same.
"""


def linear_schedule(nimg: float, start: float, end: float, kimg: float) -> float:
    """From `start` to `end` over `kimg` thousand images; `end` at once where that is 0."""
    if kimg <= 0:
        return end
    done = min(max(nimg / (kimg * 1000), 0.0), 1.0)
    return start + (end - start) * done


def density_noise(nimg: float, initial: float = 1.0, fade_kimg: float = 5000) -> float:
    """Standard deviation of the noise on raw densities in training; fades to 0.

    It keeps the generator from settling on half-transparent clouds early on. The original has none
    in its very first iteration, which is not repeated.
    """
    return linear_schedule(nimg, initial, 0.0, fade_kimg)
