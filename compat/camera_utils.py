"""The camera helpers under the name that programs for the original layout import."""

from eg3d.cameras import *  # noqa: F403
