"""What a score depends on: a number without it cannot be compared with another one."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from metrics.collecting import Collected, Reals, Want, detector_of, reals_kwargs
from metrics.fakes import Fakes, camera_source
from metrics.feature_metrics import FeatureMetric
from metrics.options import MetricOptions
from metrics.real_statistics import content_hash
from training.run_description import git_state, versions


def feature_provenance(
    options: MetricOptions, metric: FeatureMetric, found: Mapping[str, Collected]
) -> dict[str, Any]:
    """Of a metric that compares features: the detector, both sets of pictures, how it was
    computed; plain values for JSON."""
    detector = detector_of(options, metric.detector)
    described = dict(detector=dict(name=detector.name, sha256=detector.sha256))
    for name, want in metric.wants.items():
        pictures = _reals if isinstance(want.source, Reals) else _fakes
        described[name] = dict(number=found[name].count, **pictures(options, want))
    return dict(described, **computed(options))


def computed(options: MetricOptions) -> dict[str, Any]:
    """How any metric was computed: data, generator, seed, precision, device, versions."""
    data = dict(options.dataset_kwargs)
    return dict(
        data=dict(path=data.get("path"), content_sha256=content_hash(data)),
        generator=_generator(options),
        seed=options.seed,
        batch=options.batch,
        batch_gen=options.batch_gen,
        precision=_precision(options),
        device=device_name(options.device),
        versions=versions(),
        code=git_state(Path(__file__).parent),
    )


def device_name(device: torch.device) -> str:
    """The name of a GPU, else the kind of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _reals(options: MetricOptions, want: Want) -> dict[str, Any]:
    kwargs = reals_kwargs(options, want.source)
    return dict(mirrored=bool(kwargs.get("xflip", False)), sample=want.source.sample)


def _fakes(options: MetricOptions, want: Want) -> dict[str, Any]:
    source: Fakes = want.source
    cameras = "labels of the data set"
    if source.cameras != "labels":
        cameras = asdict(camera_source(options))
    return dict(cameras=cameras, condition=source.condition)


def _generator(options: MetricOptions) -> dict[str, Any]:
    """What the pictures depend on besides the weights."""
    kwargs = options.G.rendering_kwargs
    settings = dict(
        truncation_psi=1,
        truncation_cutoff=None,
        neural_rendering_resolution=options.G.usual_side(),
        samples=[kwargs["depth_resolution"], kwargs["depth_resolution_importance"]],
        noise_mode="random",
        jitter="random",
    )
    shown = {name: kwargs.get(name, values[0]) for name, values in options.G.own_choices.items()}
    return settings | shown | dict(options.G_kwargs)


def _precision(options: MetricOptions) -> str:
    """Of the generator's products; detectors compute in float32."""
    if options.device.type != "cuda":
        return "float32"
    half = [name for name in ("num_fp16_res", "sr_num_fp16_res") if getattr(options.G, name, 0)]
    return f"float32 without TF32, half in {', '.join(half)}" if half else "float32 without TF32"
