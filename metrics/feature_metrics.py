"""The metrics that compare features of generated and real pictures, under their published names.

Full sets of real pictures, without mirrored copies, for `*_full`; the names without `_full` compare
with 50,000 real pictures as the training saw them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from metrics.collecting import Collected, Reals, Want
from metrics.fakes import Fakes
from metrics.frechet import frechet_distance
from metrics.inception_score import inception_score
from metrics.kernel_distance import kernel_distance
from metrics.precision_recall import precision_recall

ALL = Reals()
AS_TRAINED = Reals(as_trained=True)
AS_PUBLISHED = Fakes()

Compute = Callable[[Collected, Collected | None, int], Mapping[str, float]]


@dataclass(frozen=True)
class FeatureMetric:
    """A metric of features: compute(fake, real, seed) makes results by name of what was collected.

    Args:
        fake, real: what is wanted of generated and of real pictures, through the same detector.
    """

    name: str
    compute: Compute
    fake: Want
    real: Want | None = None

    @property
    def detector(self) -> str:
        """The role of the network whose features these are."""
        return self.fake.detector

    @property
    def wants(self) -> dict[str, Want]:
        """Both of them by name, as far as they are there."""
        both = dict(fake=self.fake, real=self.real)
        return {name: want for name, want in both.items() if want is not None}


def _frechet(
    name: str,
    fakes: int,
    reals: Reals = ALL,
    most_reals: int | None = None,
    source: Fakes = AS_PUBLISHED,
    detector: str = "inception",
) -> FeatureMetric:
    def compute(fake, real, seed: int) -> dict[str, float]:
        return {name: frechet_distance(fake, real)}

    fake, real = Want(source, detector, fakes), Want(reals, detector, most_reals)
    return FeatureMetric(name, compute, fake, real)


def _kernel(name: str, reals: Reals, most_reals: int) -> FeatureMetric:
    def compute(fake, real, seed: int) -> dict[str, float]:
        return {name: kernel_distance(real.rows, fake.rows, seed=seed)}

    fake = Want(AS_PUBLISHED, "inception", 50_000, keep="all")
    return FeatureMetric(name, compute, fake, Want(reals, "inception", most_reals, keep="all"))


def _precision_recall(name: str, reals: Reals, most_reals: int) -> FeatureMetric:
    def compute(fake, real, seed: int) -> dict[str, float]:
        precision, recall = precision_recall(real.rows, fake.rows)
        return {f"{name}_precision": precision, f"{name}_recall": recall}

    fake = Want(AS_PUBLISHED, "vgg16", 50_000, keep="all")
    return FeatureMetric(name, compute, fake, Want(reals, "vgg16", most_reals, keep="all"))


def _inception_score(name: str, fakes: int) -> FeatureMetric:
    def compute(fake, real, seed: int) -> dict[str, float]:
        mean, std = inception_score(fake.rows)
        return {f"{name}_mean": mean, f"{name}_std": std}

    fake = Want(AS_PUBLISHED, "inception", fakes, "probabilities", "all")
    return FeatureMetric(name, compute, fake)


FEATURE_METRICS = {
    metric.name: metric
    for metric in (
        _frechet("fid50k_full", 50_000),
        _kernel("kid50k_full", ALL, 1_000_000),
        _precision_recall("pr50k3_full", ALL, 200_000),
        _inception_score("is50k", 50_000),
        _frechet("fid50k", 50_000, AS_TRAINED, 50_000),
        _kernel("kid50k", AS_TRAINED, 50_000),
        _precision_recall("pr50k3", AS_TRAINED, 50_000),
        # Smaller ones, for frequent use. The distance grows as the number of pictures falls.
        _frechet("fid10k_full", 10_000),
        _frechet("fid2k_full", 2_000),
        # Cameras from a formula, and identities that do not know their camera.
        _frechet("fid50k_camera", 50_000, source=Fakes(cameras="distribution")),
        _frechet("fid50k_full_fixed", 50_000, source=Fakes(condition="fixed")),
        # Features of fixed random convolutions: to watch a toy model learn without a trained
        # detector. Not comparable with published scores.
        _frechet("fd2k_randconv112", 2_000, Reals(sample=10_000), detector="randconv112"),
    )
}
