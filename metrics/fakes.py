"""The pictures that a generator makes for a metric.

As published: latents from the normal distribution, not truncated; each picture is rendered from,
and conditioned on, the camera of a random real picture, and is of its class where there are
classes; noise and the jitter of samples along rays are drawn anew for every picture.
"""

from dataclasses import dataclass

import torch

from metrics.options import MetricOptions
from metrics.pose_distribution import PoseDistribution, pose_distribution
from metrics.samples import latents, picks, real_labels
from training.cameras import Camera, look_at, split_label
from training.micro_batches import seed_everything


@dataclass(frozen=True)
class Fakes:
    """A set of generated pictures.

    Args:
        cameras: 'labels', those of real pictures; 'distribution', drawn from
            `MetricOptions.cameras`.
        condition: 'same', the camera that a picture is rendered from; 'fixed', the frontal one for
            all pictures, which shows how much the pose leaks into what is generated.
    """

    cameras: str = "labels"
    condition: str = "same"


def generate(options: MetricOptions, source: Fakes, indices: range) -> torch.Tensor:
    """Pictures uint8 [n, 3, R, R] with some successive numbers, on the device.

    Noise is drawn for `options.batch_gen` of them at a time; latents and cameras depend on the
    number of the picture alone.
    """
    parts = []
    for start in range(indices.start, indices.stop, options.batch_gen):
        part = range(start, min(start + options.batch_gen, indices.stop))
        z = latents(part, options.G.z_dim, options.seed).to(options.device)
        c = cameras_of(options, source.cameras, part).to(options.device)
        seed_everything(options.seed, start)
        image = _render(options, z, c, _conditions(options, source, c))
        parts.append((image * 127.5 + 128).clamp(0, 255).to(torch.uint8))
    return torch.cat(parts)


def cameras_of(options: MetricOptions, kind: str, indices: range) -> torch.Tensor:
    """Labels [n, c_dim] of the pictures with some successive numbers; `kind` as of
    `Fakes.cameras`."""
    if kind == "distribution":
        return with_class(options, indices, camera_source(options).sample(indices, options.seed))
    labels = _labels(options)
    return labels[picks(indices, len(labels), options.seed)]


def with_class(options: MetricOptions, indices: range, c: torch.Tensor) -> torch.Tensor:
    """Cameras [n, 25] of the pictures with some successive numbers as labels [n, c_dim]: of a
    network with classes each has that of the random real picture with its number, so that classes
    come as often as in the data. Labels with a class stay."""
    if c.shape[1] == options.G.c_dim:
        return c
    _, classes = split_label(cameras_of(options, "labels", indices))
    return torch.cat([c, classes.to(c)], dim=1)


def camera_source(options: MetricOptions) -> PoseDistribution:
    """The distribution that `options.cameras` names or that is fitted to the data set."""
    return pose_distribution(options.cameras, _labels(options))


def _labels(options: MetricOptions) -> torch.Tensor:
    if "labels" not in options.memory:
        options.memory["labels"] = real_labels(options)
    return options.memory["labels"]


def frontal_camera(options: MetricOptions, like: torch.Tensor) -> torch.Tensor:
    """The label [1, 25] of the camera at +z that looks at the middle of the scene, at the usual
    distance, with the lens of the labels `like` [n, 25]."""
    kwargs = options.G.rendering_kwargs
    origin = like.new_tensor([[0.0, 0.0, kwargs.get("avg_camera_radius", 2.7)]])
    pose = look_at(origin, kwargs.get("avg_camera_pivot", (0.0, 0.0, 0.0)))
    return Camera(pose, Camera.from_label(like[:1]).intrinsics).label()


def _conditions(options: MetricOptions, source: Fakes, c: torch.Tensor) -> torch.Tensor:
    if source.condition == "same":
        return c
    camera, (_, classes) = frontal_camera(options, c), split_label(c)
    return torch.cat([camera.expand(len(c), -1), classes], dim=1)


def _render(
    options: MetricOptions, z: torch.Tensor, c: torch.Tensor, condition: torch.Tensor
) -> torch.Tensor:
    """Pictures [n, 3, R, R] in about [-1, 1], rendered from c, of identities conditioned on
    `condition`, both [n, c_dim]."""
    G, mapping = options.G, options.truncation
    kwargs = {name: value for name, value in options.G_kwargs.items() if name not in mapping}
    return G.synthesis(G.mapping(z, condition, **mapping), c, **kwargs)["image"]
