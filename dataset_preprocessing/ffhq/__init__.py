"""FFHQ and faces in photographs as posed datasets: `python -m dataset_preprocessing.ffhq`."""
