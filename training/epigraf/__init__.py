"""EpiGRAF (Skorokhodov et al. 2022, arXiv 2206.10535): a tri-plane generator without
super-resolution, trained on patches of its pictures."""
