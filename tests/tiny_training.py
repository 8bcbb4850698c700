"""A training of tiny networks on pictures of noise, without files."""

import torch

from tests.tiny import tiny_discriminator, tiny_generator
from training.cameras import look_at
from training.loss import StyleGAN2Loss
from training.micro_batches import Reals, draw_batches
from training.phases import add_gradients, make_phases, run_phase

ADAM = dict(class_name="torch.optim.Adam", lr=0.002, betas=[0, 0.99], eps=1e-8)


class Training:
    """Tiny networks, trained by all kinds of terms."""

    def __init__(self, device="cpu", **loss_kwargs):
        self.device = device
        self.G, self.D = (n.train().to(device) for n in (tiny_generator(), tiny_discriminator()))
        self.G.rendering_kwargs.update(density_reg=0.25, density_reg_p_dist=0.004, reg_type="l1")
        settings = dict(
            neural_rendering_resolution_initial=8,
            dual_discrimination=True,
            style_mixing_prob=0.5,
            gpc_reg_prob=0.5,
            gpc_reg_fade_kimg=0,
            r1_gamma=1,
        )
        self.loss = StyleGAN2Loss(self.G, self.D, **{**settings, **loss_kwargs})
        self.phases = make_phases(self.loss.trained(), dict(G=ADAM, D=ADAM), dict(G=2, D=2))
        self.tracked = [b for name, b in self.G.named_buffers() if name.endswith("w_avg")]

    def run(self, iterations, add=add_gradients, micro_batches=1):
        """Steps of all phases on pictures of noise."""
        torch.manual_seed(0)
        positions = torch.nn.functional.normalize(torch.randn(8, 3), dim=1) * 2.7
        lens = torch.tensor([[4.26, 0, 0.5, 0, 4.26, 0.5, 0, 0, 1]]).expand(8, -1)
        poses = look_at(positions, (0.0, 0.0, 0.2)).flatten(1)
        cameras = torch.cat([poses, lens], dim=1).to(self.device)
        pictures = torch.rand(iterations, micro_batches, 2, 3, 32, 32).to(self.device) * 2 - 1
        for i in range(iterations):
            reals = [Reals(k, pictures[i, k], cameras[k : k + 2]) for k in range(micro_batches)]
            for number, phase in enumerate(self.phases):
                if i % phase.interval == 0:
                    batches = draw_batches(reals, cameras, 8, (0, i, number))
                    run_phase(phase, batches, i * 1000, tracked=self.tracked, add=add)
        return self

    def tensors(self):
        """Everything that training changes."""
        optimizers = {id(p.opt): p.opt for p in self.phases}.values()
        moments = [t for o in optimizers for s in o.state.values() for t in s.values()]
        return [*self.G.state_dict().values(), *self.D.state_dict().values(), *moments]
