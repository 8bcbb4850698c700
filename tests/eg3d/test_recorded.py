"""Renderings by recordings, on a CPU with a tape in place of CUDA graphs."""

import copy
from dataclasses import fields, replace

import pytest
import torch

from eg3d.errors import InputError
from eg3d.recorded import PLAIN_FIRST, RecordedRenderings
from eg3d.scene import Rendering, Scene, render_views
from tests.tape import Tape
from tests.tiny import tiny_generator
from training.cameras import Camera, look_at


def scenes(count=1, device="cpu"):
    """Scenes of noise."""
    G = tiny_generator().to(device)
    torch.manual_seed(1)
    return Scene.of(G, torch.randn(count, G.backbone.num_ws, 8, device=device))


def cameras(count, device="cpu"):
    """From random sides."""
    torch.manual_seed(2)
    positions = torch.nn.functional.normalize(torch.randn(count, 3), dim=1) * 2.7
    lens = torch.tensor([[4.26, 0, 0.5], [0, 4.26, 0.5], [0, 0, 1]]).expand(count, 3, 3)
    return Camera(look_at(positions, (0.0, 0.0, 0.2)), lens).to(device)


def equal(one: Rendering, other: Rendering) -> bool:
    """To the bit."""
    return all(torch.equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Rendering))


def test_views_are_those_of_plain_rendering():
    """New cameras, scenes and weights reach a recording; earlier pictures stay as they were."""
    tape, said, scene = Tape(), [], scenes()
    render = RecordedRenderings(tape, said.append)
    path = cameras(PLAIN_FIRST + 3)
    kept = [render(scene, path[k]) for k in range(len(path))]
    assert len(tape.lengths) == 1 and not said
    assert all(equal(view, scene.render(path[k])) for k, view in enumerate(kept))

    other = replace(scene, planes=scene.planes * 0.5, ws=scene.ws + 1)
    assert equal(render(other, path[0]), other.render(path[0]))
    with torch.no_grad():
        scene.generator.decoder.net[0].weight *= 2
    assert equal(render(other, path[0]), other.render(path[0]))
    assert len(tape.lengths) == 1


def test_other_kinds_of_calls_have_recordings_of_their_own():
    tape, scene = Tape(), scenes(2)
    render = RecordedRenderings(tape)
    far = copy.copy(scene.generator)
    far.rendering_kwargs = {**far.rendering_kwargs, "ray_end": 3.0}
    calls = [
        (scene, cameras(2), 8, None),
        (scene, cameras(2), 8, 2.0),
        (replace(scene, generator=far), cameras(2), 8, None),
    ]
    for _ in range(PLAIN_FIRST + 2):
        for shown, camera, *sizes in calls:
            assert equal(render(shown, camera, *sizes), shown.render(camera, *sizes))
    assert len(tape.lengths) == len(calls)


def test_what_cannot_be_recorded_stays_plain(monkeypatch):
    """Here because it waits for a number."""

    def waiting(shown, camera, *sizes):
        assert shown.planes.sum().item()
        return render_views(shown, camera, *sizes)

    monkeypatch.setattr("eg3d.recorded.render_views", waiting)
    tape, said, scene, path = Tape(), [], scenes(), cameras(5)
    render = RecordedRenderings(tape, said.append)
    assert all(equal(render(scene, path[k]), scene.render(path[k])) for k in range(5))
    assert not tape.lengths and len(said) == 1
    assert said[0].startswith("renderings run without a CUDA graph: ") and "\n" not in said[0]


def test_bad_cameras_are_refused_as_ever():
    render, scene = RecordedRenderings(Tape()), scenes(2)
    path = cameras(3)
    with pytest.raises(ValueError, match="2 scenes and 3 cameras"):
        render(scene, path)
    path.cam2world[0, 0, 3] = float("nan")
    with pytest.raises(InputError, match="not all finite"):
        render(scene, path[:2])


def test_without_a_gpu_everything_is_plain():
    render, scene, path = RecordedRenderings(), scenes(), cameras(5)
    assert all(equal(render(scene, path[k]), scene.render(path[k])) for k in range(5))


@pytest.mark.gpu
def test_a_gpu_repeats_views():
    said, scene, path = [], scenes(device="cuda"), cameras(6, "cuda")
    render = RecordedRenderings(say=said.append)
    for k in range(len(path)):
        one, other = render(scene, path[k]), scene.render(path[k])
        for field in fields(Rendering):
            found, exact = getattr(one, field.name), getattr(other, field.name)
            torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-3)
    assert not said
