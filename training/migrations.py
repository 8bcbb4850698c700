"""Versions of what persistent objects store, and how a state of one becomes one of the next.

One number for the whole project. Whoever changes what a class stores, in name or in meaning, adds a
function here and a file to tests/data/snapshots. Files of all earlier versions then still open.
"""

import pickle
from collections.abc import Callable
from typing import Any

from torch_utils.pickle_writing import plain_numbers

VERSION_ENTRY = "_state_version"


def _from_published(class_name: str, state: dict[str, Any]) -> dict[str, Any]:
    """0 -> 1. Version 0 is the published layout: gains are NumPy scalars, and a rendering that was
    cached before the network was saved is in the file."""
    state = {name: plain_numbers(value) for name, value in state.items()}
    if "_last_planes" in state:
        state["_last_planes"] = None
    return state


# Function i takes the name of a class and the state of version i of one object of it, and returns
# that of version i + 1. The values may be inert stand-ins for tensors and modules, so a function
# moves, renames, adds and replaces entries of dicts, and calls nothing of the values.
MIGRATIONS: tuple[Callable[[str, dict[str, Any]], dict[str, Any]], ...] = (_from_published,)

STATE_VERSION = len(MIGRATIONS)


def migrate(class_name: str, state: dict[str, Any]) -> dict[str, Any]:
    """The state of one object as this code wants it, from a state of any version up to now.

    The entry `_state_version` says which version it is, none means 0; the result lacks it. `state`
    stays as it is. Raises pickle.UnpicklingError for versions that this code does not know.
    """
    state = dict(state)
    version = state.pop(VERSION_ENTRY, 0)
    if type(version) is not int or version < 0:
        raise pickle.UnpicklingError(
            f"{class_name}: {VERSION_ENTRY} must be a number from 0 to {STATE_VERSION}"
        )
    if version > STATE_VERSION:
        raise pickle.UnpicklingError(
            f"{class_name}: made by a newer version of this project (state version {version}, "
            f"this code knows up to {STATE_VERSION}); please update it"
        )
    try:
        for step in MIGRATIONS[version:]:
            state = step(class_name, state)
    except (LookupError, RecursionError, TypeError, ValueError) as error:  # a damaged file
        raise pickle.UnpicklingError(f"{class_name}: its state cannot be used: {error}") from error
    return state
