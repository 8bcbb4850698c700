"""AFHQ's cats as a posed dataset: `python -m dataset_preprocessing.afhq`."""
