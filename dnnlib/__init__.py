"""Helpers without torch: attribute dictionaries, names, logging, downloads with a cache."""

from . import util
from .util import EasyDict, make_cache_dir_path

__all__ = ["EasyDict", "make_cache_dir_path", "util"]
