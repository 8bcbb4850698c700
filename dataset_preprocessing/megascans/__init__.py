"""Renders of Megascans' plants and food as a posed dataset: `python -m
dataset_preprocessing.megascans`."""
