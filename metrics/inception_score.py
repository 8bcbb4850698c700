"""The Inception score: Salimans et al. 2016, "Improved techniques for training GANs", section 4."""

import torch
from torch import Tensor


def inception_score(probabilities: Tensor, splits: int = 10) -> tuple[float, float]:
    """Mean and standard deviation over successive parts of exp(mean KL(p(y|x) || p(y))).

    Args:
        probabilities: of classes, [n, C], a row each picture.
        splits: parts of the pictures, each with a p(y) of its own.

    Raises ValueError where there are fewer pictures than parts.
    """
    count = len(probabilities)
    if count < splits:
        raise ValueError(f"{count} pictures cannot be split into {splits} parts")
    scores = []
    for k in range(splits):
        part = probabilities[k * count // splits : (k + 1) * count // splits].double()
        mean = part.mean(0, keepdim=True)
        information = torch.special.xlogy(part, part) - torch.special.xlogy(part, mean)
        scores.append(information.sum(1).mean().exp())
    found = torch.stack(scores)
    return float(found.mean()), float(found.std(correction=0))
