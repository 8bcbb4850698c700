"""The models that viewers have open, and the one lock that whoever draws with them holds."""

import os
import threading
from collections import OrderedDict

from eg3d import loading
from eg3d.errors import InputError
from eg3d.model import Model, load, pick_device

MODELS_KEPT = 3


class Studio:
    """Opens models by the safe loader, each once, and forgets those used longest ago.

    Hold `lock` while a model computes: networks are not made for several threads, and a device
    that works on one picture after the other is as fast as on several at once.
    """

    def __init__(self, device: str | None = None, keep: int = MODELS_KEPT):
        self.device = pick_device(device)
        self.lock = threading.Lock()
        self._keep = keep
        self._opening, self._table = threading.Lock(), threading.Lock()
        self._models: OrderedDict[tuple, Model] = OrderedDict()

    def model(self, source: str, weights: str = "G_ema") -> Model:
        """The model of a path, an address or a run directory. Raises InputError."""
        key = _key(source, weights)
        model = self._used(key)
        if model is not None:
            return model
        with self._opening:  # Others go on with models that are open.
            model = self._used(key) or load(key[0], weights, self.device)
            with self._table:
                self._models[key] = model
                while len(self._models) > self._keep:
                    self._models.popitem(last=False)
        return model

    def has(self, source: str, weights: str = "G_ema") -> bool:
        """Whether `model` would return at once."""
        try:
            return _key(source, weights) in self._models
        except InputError:
            return False

    def _used(self, key: tuple) -> Model | None:
        with self._table:
            if key in self._models:
                self._models.move_to_end(key)
            return self._models.get(key)


def _key(source: str, weights: str) -> tuple:
    """What tells a model from others, also from an older file at the same place."""
    if not source:
        raise InputError("no model is chosen: name a snapshot (.pkl, .safetensors) or a run")
    source = os.fspath(loading.newest(source))
    try:
        status = os.stat(source)
    except OSError:  # An address, or a file that is not there, which the loader says better.
        return (source, weights)
    return (source, weights, status.st_mtime_ns, status.st_size)
