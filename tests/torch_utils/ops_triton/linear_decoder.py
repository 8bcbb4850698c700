"""A decoder of other activations than the published one of EG3D."""

import torch


class LinearDecoder(torch.nn.Module):
    """Leaky ReLU between two layers, three linear colours."""

    averages_planes = True
    hidden_activation, color_activation = "lrelu", "linear"

    def __init__(self, channels=16, hidden=16, colours=3):
        super().__init__()
        shapes = [(hidden, channels), (hidden,), (1 + colours, hidden), (1 + colours,)]
        self.layers = torch.nn.ParameterList(torch.randn(shape) / 2 for shape in shapes)

    def two_layers(self):
        return tuple(self.layers)

    def forward(self, features, directions=None):
        w1, b1, w2, b2 = self.layers
        hidden = torch.nn.functional.leaky_relu(features[:, 0] @ w1.T + b1, 0.2) * 2**0.5
        out = hidden @ w2.T + b2
        return {"rgb": out[..., 1:], "sigma": out[..., :1]}
