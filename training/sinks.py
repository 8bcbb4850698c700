"""Where the curves and pictures of a run can be looked at: TensorBoard, Weights & Biases."""

import functools
import math
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from training.option_checks import OptionError

WANDB_ID_FILE = "wandb_run_id.txt"
# Whole 8K grids would fill the disk.
CORNER = 2048


class TensorBoardSink:
    """Events in the run directory; one notice and nothing else without TensorBoard.

    Nothing is opened before it is needed: `purge_step` may change until then. From that step on
    TensorBoard hides what earlier processes wrote. A step is a thousand images.
    """

    def __init__(self, run_dir: str | Path):
        self.run_dir = Path(run_dir)
        self.purge_step = 0

    @functools.cached_property
    def writer(self):
        """torch's SummaryWriter, None without TensorBoard."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            print(
                f"TensorBoard events are skipped ({error}): pip install tensorboard",
                file=sys.stderr,
            )
            return None
        return SummaryWriter(str(self.run_dir), purge_step=self.purge_step)

    def scalars(self, values: Mapping[str, float], nimg: int, seconds: float) -> None:
        """One point of every curve, `seconds` after the beginning of the run."""
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, nimg // 1000, walltime=seconds)
            self.writer.flush()

    def images(self, grids: Mapping[str, np.ndarray], nimg: int) -> None:
        """Picture grids [H, W, C] uint8 under their names, the corner of 2048 x 2048 pixels."""
        if self.writer is not None:
            for name, grid in grids.items():
                corner = grid[:CORNER, :CORNER]
                self.writer.add_image(name, corner, nimg // 1000, dataformats="HWC")

    def close(self) -> None:
        """Closes the file."""
        if self.writer is not None:
            self.writer.close()


class WandbSink:
    """A run of Weights & Biases, which a later process in the same run directory continues.

    wandb's own environment variables hold: WANDB_MODE=offline writes to the run directory only.
    Curves are over thousands of images, `kimg`. What was logged cannot be taken back: after a kill
    the stretch since the last checkpoint is there twice.

    Args:
        project: its name, or entity/name.
        settings: of the run, to be shown with it.

    Raises OptionError where wandb is not installed or refuses to begin.
    """

    def __init__(
        self, run_dir: str | Path, project: str, settings: Mapping[str, Any] | None = None
    ):
        self.wandb = import_wandb()
        run_dir = Path(run_dir)
        entity, _, name = project.rpartition("/")
        try:
            self.run = self.wandb.init(
                entity=entity or None,
                project=name,
                id=_run_id(run_dir),
                resume="allow",
                name=run_dir.name,
                dir=str(run_dir),
                config=dict(settings or {}),
                # The output is in log.txt already, and its logger would get in the way.
                settings=self.wandb.Settings(console="off"),
            )
        except self.wandb.Error as error:
            reason = str(error).strip().splitlines()[0]
            raise OptionError(f"--wandb={project}: {reason}") from error
        self.run.define_metric("kimg")
        self.run.define_metric("*", step_metric="kimg")

    def scalars(self, values: Mapping[str, float], nimg: int, seconds: float) -> None:
        """One point of every curve that has a finite value."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self.run.log({"kimg": nimg / 1000, **finite})

    def images(self, grids: Mapping[str, np.ndarray], nimg: int) -> None:
        """Picture grids [H, W, C] uint8 under their names, the corner of 2048 x 2048 pixels."""
        pictures = {
            name: self.wandb.Image(grid[:CORNER, :CORNER].squeeze()) for name, grid in grids.items()
        }
        self.run.log({"kimg": nimg / 1000, **pictures})

    def close(self) -> None:
        """Sends what is left."""
        self.run.finish()


def import_wandb():
    """The module `wandb`; raises OptionError where it is not installed."""
    try:
        import wandb
    except ImportError:
        wandb = None
    # A folder of that name, as wandb itself makes them, is importable too.
    if not hasattr(wandb, "init"):
        raise OptionError("--wandb: Weights & Biases is not installed: pip install wandb")
    return wandb


def _run_id(run_dir: Path) -> str:
    """The identity of the run, kept in its directory."""
    path = run_dir / WANDB_ID_FILE
    if not path.exists():
        path.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
