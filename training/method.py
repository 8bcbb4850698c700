"""What a method of training is: a record that names its parts (see docs/methods.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Of train.py: flag, click type, default, help.
OptionRow = tuple[str, Any, Any, str]


@dataclass(frozen=True)
class Importer:
    """How networks in the layout of a method's published files become those of this project.

    Args:
        class_name: of the published class.
        mark: what tells such a network from others whose class has that name: a constructor
            argument, or the beginning of a tensor's name.
        function: "module:function", which takes a `training.network_record.NetworkRecord` and
            returns another one; it raises RecordError for what cannot be imported.
    """

    class_name: str
    mark: str
    function: str


@dataclass(frozen=True)
class Method:
    """A way to train a tri-plane GAN. Light: the parts are named, and imported when they are used.

    Args:
        name: as of `train.py --method`.
        title: what it is, in a few words.
        cfgs: the presets that it has, names for `train.py --cfg`.
        parts: the module with `PRESETS` (a `training.presets.Preset` for each of `cfgs`),
            `settings(opts, preset, training_set)`, which gives the fields of `TrainingConfig` that
            are the method's own, at least `G_kwargs`, `D_kwargs` and `loss_kwargs`, and
            `check(opts, training_set)`, which raises OptionError for options that cannot be used.
        options: rows of train.py that only this method has.
        ignored: names of train.py's shared options that change nothing with this method.
        classes: persistent classes by module, see `torch_utils.persistence`.
        plain_classes: classes that files name by reference, and where they are.
        importers: for published files whose networks are laid out in another way.
    """

    name: str
    title: str
    cfgs: tuple[str, ...]
    parts: str
    options: tuple[OptionRow, ...] = ()
    ignored: frozenset[str] = frozenset()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plain_classes: Mapping[str, str] = field(default_factory=dict)
    importers: tuple[Importer, ...] = ()

    @property
    def own_options(self) -> frozenset[str]:
        """The names of its options as Python has them."""
        return frozenset(row[0].lstrip("-").replace("-", "_") for row in self.options)
