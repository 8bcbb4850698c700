"""The metrics of geometry and of views, by name.

Most need no foreign network; those of faces need an estimator that somebody else trained
(`metrics.estimators` says what it takes and returns).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from metrics.detectors import load_network
from metrics.estimators import depth_accuracy, identity_consistency, pose_accuracy
from metrics.multi_view import multi_view_consistency
from metrics.options import MetricOptions
from metrics.reprojection import reprojection_consistency
from metrics.shape_measures import shape_measures
from metrics.true_geometry import depth_error, pose_error
from metrics.view_fitting import FitSettings


@dataclass(frozen=True)
class GeometryMetric:
    """A metric that is computed from generated views: measure(options, [network,] **settings).

    Args:
        role: of the foreign network that it needs, see `metrics.detectors`.
        settings: further arguments, which belong to the definition.
    """

    name: str
    measure: Callable[..., Mapping[str, float]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    role: str | None = None

    def __call__(self, options: MetricOptions) -> Mapping[str, float]:
        """Results by name; to be called in all processes. Raises MetricError, DatasetError."""
        networks = [] if self.role is None else [self._network(options).module]
        return self.measure(options, *networks, **self.settings)

    def provenance(self, options: MetricOptions) -> dict[str, Any]:
        """What its values depend on besides what `metrics.provenance.computed` says."""
        said = dict(settings=dict(self.settings))
        if self.role is not None:
            network = self._network(options)
            said["network"] = dict(role=self.role, name=network.name, sha256=network.sha256)
        return said

    def _network(self, options: MetricOptions):
        return load_network(self.role, options.networks.get(self.role), options.device)


GEOMETRY_METRICS = {
    metric.name: metric
    for metric in (
        GeometryMetric("reprojection", reprojection_consistency, dict(subjects=100, views=4)),
        GeometryMetric(
            "mv_triplane",
            multi_view_consistency,
            dict(subjects=50, views=30, side=128, **asdict(FitSettings())),
        ),
        GeometryMetric("shape", shape_measures, dict(samples=256)),
        GeometryMetric("depth_error", depth_error, dict(pictures=1000)),
        GeometryMetric("pose_error", pose_error, dict(pictures=1000)),
        GeometryMetric(
            "id1k",
            identity_consistency,
            dict(identities=1024, condition="fixed", divisor=127.5),
            "face_embedder",
        ),
        GeometryMetric(
            "depth1k", depth_accuracy, dict(pictures=1024, normalise=True), "depth_estimator"
        ),
        GeometryMetric("pose1k", pose_accuracy, dict(pictures=1024), "pose_estimator"),
    )
}
