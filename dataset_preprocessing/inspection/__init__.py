"""Looks at a dataset before a model is trained with it: `python dataset_tool.py inspect`.

`survey` reads every picture and label and says what is wrong with each; `geometry` measures the
cameras and proposes what a model needs; `page` and `summary` tell it to people and to programs;
`fix` writes what can be mended as a new dataset.
"""

from dataset_preprocessing.inspection.fix import write_fixed
from dataset_preprocessing.inspection.geometry import Geometry, Proposal, measure, propose
from dataset_preprocessing.inspection.page import write_page
from dataset_preprocessing.inspection.summary import assess, summarise
from dataset_preprocessing.inspection.survey import Survey, survey

__all__ = [
    "Geometry",
    "Proposal",
    "Survey",
    "assess",
    "measure",
    "propose",
    "summarise",
    "survey",
    "write_fixed",
    "write_page",
]
