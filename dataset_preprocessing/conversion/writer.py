"""Puts the pictures of a dataset and their labels into its destination."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from dataset_preprocessing.conversion.archive import Destination
from dataset_preprocessing.conversion.shard_archive import ShardPlan
from dataset_preprocessing.conversion.sources import PROVENANCE, Label, Source
from training.label_file import LABEL_FILE


@dataclass
class Report:
    """What a conversion did: pictures written, dropped as too small, and left out with the
    reasons; whether those that are written have labels."""

    written: int = 0
    has_labels: bool = False
    dropped: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Made:
    """A picture of the dataset: PNG, label and shape; or why it cannot be had; or nothing, for one
    that is dropped."""

    png: bytes | None = None
    label: Label = None
    shape: tuple[int, ...] | None = None
    problem: str | None = None


def picture_name(index: int) -> str:
    """The name of a picture in a dataset."""
    return f"{index:08d}"[:5] + f"/img{index:08d}.png"


class Writer:
    """Puts what was made into a destination, and keeps account."""

    def __init__(
        self,
        destination: Destination,
        plan: ShardPlan | None,
        weights: dict[int, float],
        pictures: Source,
        report: Report,
    ):
        self.destination, self.plan, self.weights = destination, plan, weights
        self.pictures, self.report = pictures, report
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.labels: dict[int, Label] = {}

    def write(self, index: int, made: Made) -> None:
        """A picture, in shards with its label, or why there is none."""
        if made.problem is not None:
            self.report.problems.append(f"{self.pictures.names[index]}: {made.problem}")
        elif made.shape is None:
            self.report.dropped += 1
        else:
            shard = None if self.plan is None else self.plan.shard_of(index)
            if made.png is not None:
                note = dict(label=made.label, shape=made.shape)
                self.destination.add(picture_name(index), made.png, note, shard)
            if shard is not None and made.label is not None:
                self._write_label(index, made.label, shard)
            self.shapes[index], self.labels[index] = tuple(made.shape), made.label

    def _write_label(self, index: int, label: Label, shard: str) -> None:
        name = _label_name(index)
        if name not in self.destination.kept:
            weight = dict(weight=self.weights[index]) if self.weights else {}
            content = json.dumps(dict(label=label, **weight))
            self.destination.add(name, content.encode(), None, shard)

    def finish(self, odd: Iterable[int]) -> None:
        """The labels of all, and the dataset in its place without the pictures `odd`."""
        names = {index: picture_name(index) for index in sorted(self.labels)}
        for index in odd:
            del names[index]
        labels = [[name, self.labels[index]] for index, name in names.items()]
        complete = all(label is not None for _, label in labels)
        content = dict(labels=labels if complete and self.plan is None else None)
        if self.weights and self.plan is None:
            content["weights"] = [[name, self.weights[index]] for index, name in names.items()]
        if self.pictures.classes is not None:
            classes = self.pictures.classes
            content["classes"] = [[name, classes[index]] for index, name in names.items()]
            content["num_classes"] = self.pictures.num_classes
        if self.pictures.provenance is not None:
            content[PROVENANCE] = self.pictures.provenance
        if self.plan is None or PROVENANCE in content:
            self.destination.add(LABEL_FILE, json.dumps(content).encode())
        leave_out = {picture_name(index) for index in odd}
        if self.plan is not None and complete:
            leave_out |= {_label_name(index) for index in odd}
        self.destination.finish(leave_out)
        self.report.written, self.report.has_labels = len(labels), complete


def _label_name(index: int) -> str:
    """Of the label of a picture in a shard."""
    return picture_name(index).removesuffix("png") + "json"
