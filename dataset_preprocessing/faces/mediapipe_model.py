"""Points of the canonical face of MediaPipe (Google, Apache-2.0, canonical_face_model.obj).

Only points that move little with the expression: their numbers in the mesh of landmarks, and their
places in centimetres, x right as a viewer sees it, y up, z out of the face.
"""

import numpy as np

from dataset_preprocessing.faces.poses import fit_similarity

POINTS: dict[int, tuple[float, float, float]] = {
    33: (-4.445859, 2.663991, 3.173422),  # corners of the eyes
    133: (-1.856432, 2.585245, 3.757904),
    362: (1.856432, 2.585245, 3.757904),
    263: (4.445859, 2.663991, 3.173422),
    168: (0.000000, 3.271027, 5.236015),  # down the nose
    6: (0.000000, 2.473255, 5.788627),
    4: (0.000000, -0.463170, 7.586580),
    1: (0.000000, -1.126865, 7.475604),
    2: (0.000000, -2.089024, 6.058267),
    98: (-1.405627, -1.714196, 5.241087),  # wings of the nose
    327: (1.405627, -1.714196, 5.241087),
    61: (-2.456206, -4.342621, 4.283884),  # corners of the mouth
    291: (2.456206, -4.342621, 4.283884),
}
NUMBERS = list(POINTS)
_EYES, _NOSE, _MOUTH = ([33, 133], [362, 263]), 4, [61, 291]


def five_of_mesh(mesh: np.ndarray) -> np.ndarray:
    """The five landmarks [5, D] of a mesh [M, D]."""
    eyes = [mesh[corners].mean(0) for corners in _EYES]
    return np.stack([*eyes, mesh[_NOSE], *mesh[_MOUTH]])


def model_points(model: np.ndarray) -> np.ndarray:
    """The places [13, 3] of `POINTS` on a mean face, whose five landmarks are `model` [5, 3]."""
    places = np.array(list(POINTS.values()))
    mesh = np.zeros((max(NUMBERS) + 1, 3))
    mesh[NUMBERS] = places
    return fit_similarity(five_of_mesh(mesh), model).points(places)
