"""A studio with the tiny snapshot."""

import pytest

from eg3d.viewer.state import ViewState
from eg3d.viewer.studio import Studio


@pytest.fixture(scope="session")
def studio():
    return Studio("cpu")


@pytest.fixture
def state(snapshot):
    """The state that shows the tiny model."""
    return ViewState(network=str(snapshot))
