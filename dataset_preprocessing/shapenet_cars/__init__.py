"""ShapeNet's cars as a posed dataset: `python -m dataset_preprocessing.shapenet_cars`."""
