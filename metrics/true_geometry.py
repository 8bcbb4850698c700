"""Shapes and poses of generated pictures beside true ones, without a network of anybody else.

The procedural data set knows the depth of its pictures; every data set knows their cameras. What is
generated shows other objects than the real pictures do, so no score can be perfect: each comes with
what real pictures get in the same place, `..._real`.
"""

import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.errors import MetricError, MetricUnavailable
from metrics.fakes import Fakes, generate
from metrics.options import MetricOptions
from metrics.pose_distribution import fit
from metrics.samples import in_order, latents, open_reals, picks, real_labels, turns
from training.cameras import POSE_SIZE, Camera
from training.image_source import make_source
from training.surfaces import OPAQUE
from training.views import FullView
from training.volumetric_rendering.draws import FixedDraws

FEWEST_PIXELS = 20  # of a picture whose depth is compared with another
_THUMBNAIL = 16  # side of the pictures among which the nearest is looked for

# -- Depth -----------------------------------------------------------------------------------------


class TrueDepths:
    """The depth maps of a data set that `dataset_preprocessing.procedural --depth` wrote.

    Args:
        path: of the data set's zip; the maps lie beside it, in <name>_depth.zip.

    Raises MetricUnavailable where there are none, MetricError where they are not those of the
    pictures.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        self.path = path.with_name(f"{path.stem}_depth.zip")
        if not self.path.is_file():
            raise MetricUnavailable(
                f"{self.path}: no such file; the true depth of {path} is written by "
                "`python -m dataset_preprocessing.procedural --depth`"
            )
        self._names = _names(self.path, ".npy")
        pictures = [name.replace(".png", ".npy") for name in _names(path, ".png")]
        if self._names != pictures:
            raise MetricError(
                f"{self.path}: {len(self._names)} depth maps, which are not those of the "
                f"{len(pictures)} pictures of {path}; write both anew by --depth --overwrite"
            )

    def read(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """The maps float32 [R, R] of the pictures with some numbers: distances along the rays in
        world units, inf on the background. Raises MetricError."""
        with zipfile.ZipFile(self.path) as archive:
            for name in (self._names[k] for k in numbers):
                try:
                    depth = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
                except (ValueError, EOFError, zipfile.BadZipFile) as error:
                    raise MetricError(f"{self.path}/{name} cannot be read ({error})") from error
                yield depth


def depth_error(options: MetricOptions, pictures: int = 1000) -> dict[str, float]:
    """Depth of generated objects beside that of real ones; to be called in all processes.

    Each fake is conditioned on, and rendered from, the camera of a random real picture, with as
    many rays as this has pixels, and compared with its true depth as of `compare_depths`. The same
    is done with the real picture whose camera is nearest in place of the fake: a perfect model
    would get about that, the closer the more pictures there are.

    Returns depth_error in world units and depth_correlation; depth_inside, the share of the opaque
    pixels of fakes that lie in the range of true depths; depth_error_real, depth_correlation_real.
    NaN where nothing is opaque. Of the options of G only truncation counts. Raises DatasetError;
    MetricUnavailable where the data set has no depth.
    """

    def share() -> dict[int, np.ndarray]:
        labels = real_labels(options)
        true = TrueDepths(options.dataset_kwargs["path"])
        chosen = picks(range(pictures), len(labels), options.seed)
        poses = labels[:, :POSE_SIZE]
        others = nearest(poses[chosen], poses, chosen)
        limits = _range(true.read(np.unique(chosen)))
        rows = {}
        for part in turns(pictures, options.batch_gen, options):
            mine = slice(part.start, part.stop)
            real = np.stack(list(true.read(chosen[mine])))
            fakes = _fake_depths(options, part, labels[chosen[mine]], real.shape[-1])
            trios = zip(fakes, real, true.read(others[mine]), strict=True)
            rows |= {
                number: [
                    *_agreement(fake, depth),
                    *_agreement(other, depth),
                    *_within(fake, limits),
                ]
                for number, (fake, depth, other) in zip(part, trios, strict=True)
            }
        return rows

    rows = np.array(in_order(options, share))
    error, correlation = _summary(rows[:, :3])
    error_real, correlation_real = _summary(rows[:, 3:6])
    inside, opaque = rows[:, 6:].sum(0)
    return {
        "depth_error": error,
        "depth_correlation": correlation,
        "depth_inside": float(inside / opaque) if opaque else math.nan,
        "depth_error_real": error_real,
        "depth_correlation_real": correlation_real,
    }


def compare_depths(depths: np.ndarray, true: np.ndarray) -> dict[str, float | None]:
    """Depth maps [N, h, w] of two kinds at the same cameras, inf on the background.

    'depth error': mean absolute difference of pixels that both see; 'depth correlation': of those
    pixels within a picture, mean over pictures, 0 for a picture without depth. The objects differ,
    so neither can be perfect; the range of depths alone would be right for a billboard too. None
    where no picture shares enough pixels.
    """
    values = _summary([_agreement(a, b) for a, b in zip(depths, true, strict=True)])
    names = ("depth error", "depth correlation")
    return {n: None if math.isnan(v) else v for n, v in zip(names, values, strict=True)}


def _agreement(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, int, float]:
    """Of two maps: the sum of the absolute differences, of how many pixels, the correlation.
    (0, 0, NaN) if too few pixels are seen in both."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    if both.sum() < FEWEST_PIXELS:
        return 0.0, 0, math.nan
    a, b = ours[both].astype(np.float64), theirs[both].astype(np.float64)
    is_flat = min(np.ptp(a), np.ptp(b)) < 1e-6
    correlation = 0.0 if is_flat else float(np.corrcoef(a, b)[0, 1])
    return float(np.abs(a - b).sum()), int(both.sum()), correlation


def _summary(rows: Sequence[Sequence[float]] | np.ndarray) -> tuple[float, float]:
    """Mean absolute error over pixels and mean correlation over pictures of rows of `_agreement`;
    NaN if there is nothing to compare."""
    sums, counts, correlations = np.asarray(rows, dtype=np.float64).T
    used = counts > 0
    if not used.any():
        return math.nan, math.nan
    return float(sums.sum() / counts.sum()), float(correlations[used].mean())


def _within(depth: np.ndarray, limits: tuple[float, float]) -> tuple[int, int]:
    """How many opaque pixels are within the limits, and how many there are."""
    return int(((limits[0] <= depth) & (depth <= limits[1])).sum()), int(np.isfinite(depth).sum())


def _range(depths: Iterator[np.ndarray]) -> tuple[float, float]:
    seen = [depth[np.isfinite(depth)] for depth in depths]
    seen = [values for values in seen if values.size]
    return min((v.min() for v in seen), default=math.inf), max((v.max() for v in seen), default=0)


def _fake_depths(options: MetricOptions, indices: range, labels: Tensor, side: int) -> np.ndarray:
    """Depth maps [n, side, side] of fakes at cameras [n, 25], inf where they are not opaque."""
    G, c = options.G, labels.to(options.device)
    z = latents(indices, G.z_dim, options.seed).to(options.device)
    planes = G.planes(G.mapping(z, c, **options.truncation), noise_mode="const")
    rays = FullView(side).rays(Camera.from_label(c))
    _, depth, opacity = G.march(planes, *rays, draws=FixedDraws())
    seen = torch.where(opacity > OPAQUE, depth, math.inf)
    return seen.reshape(-1, side, side).cpu().numpy()


def _names(path: Path, extension: str) -> list[str]:
    """The sorted names of the files of a zip that end so. Raises MetricError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted(name for name in archive.namelist() if name.endswith(extension))
    except (OSError, zipfile.BadZipFile) as error:
        raise MetricError(f"{path}: not a readable zip file ({error})") from error


# -- Pose ------------------------------------------------------------------------------------------


def pose_error(options: MetricOptions, pictures: int = 1000, bins: int = 24) -> dict[str, float]:
    """Do fakes look as real pictures from the same camera do? To be called in all processes.

    The pose of a fake is taken to be the camera of the real picture that is nearest to it, by the
    squared difference of 16 x 16 area means, background included. Each fake is conditioned on, and
    rendered from, the camera of a random real picture, which itself is left out of the search. The
    same is done with that real picture in place of the fake.

    Returns pose_error_median and pose_error_mean, angles in degrees between the lines of sight
    found and asked for; pose_azimuth_distance, total variation distance (0 to 1) between the
    histograms of their azimuths about the vertical of the world, with `bins` of a whole turn; and
    the three for real pictures, with _real at the end. Raises DatasetError; MetricError if there
    are fewer than two pictures.
    """
    parts = in_order(options, lambda: _thumbnails_of_reals(options))
    reals, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    chosen = picks(range(pictures), len(labels), options.seed)
    still = dict(options.G_kwargs, noise_mode="const", draws=FixedDraws())
    quiet = replace(options, G_kwargs=still)

    def share() -> dict[int, tuple[np.ndarray, np.ndarray]]:
        rows = {}
        for part in turns(pictures, options.batch_gen, options):
            own = chosen[part.start : part.stop]
            fakes = _thumbnails(generate(quiet, Fakes(), part))
            rows[part.start] = nearest(fakes, reals, own), nearest(reals[own], reals, own)
        return rows

    parts = in_order(options, share)
    found = (np.concatenate(column) for column in zip(*parts, strict=True))
    results = {}
    for kind, numbers in zip(("", "_real"), found, strict=True):
        angles, distance = _compare_sights(labels, numbers, chosen, bins)
        results[f"pose_error_median{kind}"] = float(angles.median())
        results[f"pose_error_mean{kind}"] = float(angles.mean())
        results[f"pose_azimuth_distance{kind}"] = distance
    return results


def nearest(rows: Tensor, candidates: Tensor, own: np.ndarray) -> np.ndarray:
    """Which of the candidates [N, F] is nearest to each of the rows [n, F], int64 [n], the one with
    the number in own [n] left out. Raises MetricError where no other is left."""
    if len(candidates) < 2:
        raise MetricError("the data set has a single picture; must have another to compare with")
    distances = torch.cdist(rows.double(), candidates.double())
    distances[torch.arange(len(own)), torch.from_numpy(own)] = math.inf
    return distances.argmin(1).numpy()


def _thumbnails_of_reals(options: MetricOptions) -> dict[int, tuple[Tensor, Tensor]]:
    """Thumbnails and labels of this process's share of the real pictures."""
    dataset = open_reals(options)
    parts = list(turns(len(dataset), options.batch, options))
    with closing(make_source(dataset, options.device, workers=options.workers)) as source:
        batches = source.read(list(part) for part in parts)
        found = {
            part.start: (_thumbnails(images), labels.cpu())
            for part, (images, labels) in zip(parts, batches, strict=True)
        }
    dataset.close()
    return found


def _thumbnails(images: Tensor) -> Tensor:
    """Area means float32 [n, 768] on the CPU of pictures uint8 [n, 3, R, R], or grey."""
    means = F.adaptive_avg_pool2d(images.float(), _THUMBNAIL)
    return means.expand(-1, 3, -1, -1).flatten(1).cpu()


def _compare_sights(
    labels: Tensor, found: np.ndarray, asked: np.ndarray, bins: int
) -> tuple[Tensor, float]:
    """Angles [n] in degrees between the lines of sight of real cameras with the numbers `found` and
    `asked` [n], and how far apart the histograms of their azimuths are."""
    forward = Camera.from_label(labels.double()).cam2world[:, :3, 2]
    a, b = forward[found], forward[asked]
    # From both sine and cosine: the arc cosine alone is inexact for small angles.
    angles = torch.atan2(torch.linalg.cross(a, b).norm(dim=1), (a * b).sum(1)).rad2deg()
    across = [k for k, x in enumerate(fit(labels).up) if x == 0]
    shares = [
        np.histogram(torch.atan2(*v[:, across].T), bins, (-math.pi, math.pi))[0] / len(v)
        for v in (a, b)
    ]
    return angles, float(np.abs(shares[0] - shares[1]).sum() / 2)
