"""Values from files that anybody may have written: JSON objects, numbers, names."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dataset_preprocessing.faces.steps import PreprocessingError


def parse_object(content: bytes, where: str | Path, form: str) -> dict[str, Any]:
    """The entries of a JSON object, at least one; `form` is what it must be, for the message.
    Raises PreprocessingError."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not found:
        raise PreprocessingError(f"{where}: must be JSON, {form}")
    return found


def numbers(what: str, values: object, *shape: int) -> np.ndarray:
    """Finite numbers, float64 of a shape, from plain values; `what` they are is for the message.
    Raises ValueError."""
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        found = np.zeros(0)
    if found.shape != shape or not np.isfinite(found).all():
        raise ValueError(f"{what} must be {' x '.join(map(str, shape))} numbers")
    return found


def leads_out(name: str) -> bool:
    """Whether the name of a file is not one inside of a folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or not path.parts or ".." in path.parts or ":" in path.parts[0]
