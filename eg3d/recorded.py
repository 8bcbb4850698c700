"""Rendering by CUDA graphs: one launch a view instead of hundreds, where a GPU waits for Python."""

import sys
from collections.abc import Callable
from dataclasses import fields

import torch

from eg3d.scene import Rendering, Samples, Scene, render_views
from torch_utils import graphs
from training.cameras import Camera

# Calls of a kind that are computed plainly before it is recorded.
PLAIN_FIRST = 2
# How far a first repetition may be from the plain pictures, as a share of their length.
TOLERANCE = 0.01
# Recordings kept: each has the memory of a rendering.
_KEPT = 4


def print_to_stderr(line: str) -> None:
    """At once."""
    print(line, file=sys.stderr, flush=True)


class RecordedRenderings:
    """Renders as `Scene.render` does. From the third call on that differs from earlier ones in the
    numbers of scenes and cameras only, a GPU repeats what it did; without a GPU all is plain.

        render = RecordedRenderings()
        for camera in cameras:
            rendering = render(scene, camera)

    A recording that fails, or differs from the plain way, is not used, and a line says so. Without
    gradients.

    Args:
        record: see `torch_utils.graphs`; default CUDA graphs where there is a GPU.
        say: is told what cannot be recorded.
    """

    def __init__(
        self,
        record: graphs.Recorder | None = None,
        say: Callable[[str], None] = print_to_stderr,
    ):
        self._record = record
        self._say = say
        self._kinds: dict[tuple, graphs.Repeated] = {}

    @torch.no_grad()
    def __call__(
        self,
        scene: Scene,
        camera: Camera,
        resolution: int | None = None,
        samples: Samples = None,
    ) -> Rendering:
        """Arguments, results and errors as of `Scene.render`."""
        if self._record is None:
            if not scene.planes.is_cuda:
                return scene.render(camera, resolution, samples)
            self._record = graphs.cuda_recorder(scene.planes.device)
        scene.check(camera)
        scene = scene.complete(scene.generator.rendering_kwargs)
        tensors = (scene.planes, scene.ws, camera.label().to(scene.planes))
        kind = (
            *(tuple(t.shape) for t in tensors),
            *(resolution, samples, scene.noise_mode),
            # Copies with other options share the weights.
            *(id(next(scene.generator.parameters())), repr(scene.generator.rendering_kwargs)),
        )
        repeated = self._kinds.pop(kind, None) or self._repeated(scene, resolution, samples)
        self._kinds[kind] = repeated
        while len(self._kinds) > _KEPT:
            del self._kinds[next(iter(self._kinds))]
        return Rendering(*graphs.clones(repeated(*tensors)))

    def _repeated(self, scene: Scene, resolution: int | None, samples: Samples) -> graphs.Repeated:
        generator, noise_mode = scene.generator, scene.noise_mode

        def work(planes, ws, label):
            scenes = Scene(planes, ws, generator, noise_mode)
            rendering = render_views(scenes, Camera.from_label(label), resolution, samples)
            return tuple(getattr(rendering, field.name) for field in fields(Rendering))

        def refused(problem: str) -> None:
            self._say(f"renderings run without a CUDA graph: {problem}")

        return graphs.Repeated(work, self._record, PLAIN_FIRST, _difference, refused=refused)


def _difference(repeated: tuple[torch.Tensor, ...], plain: tuple[torch.Tensor, ...]) -> str:
    share = graphs.share_off(repeated, plain)
    return f"a repetition is {100 * share:.1f} % off" if share > TOLERANCE else ""
