"""The StyleGAN2 parts of EG3D under the module path that checkpoints and programs know."""

from training.aware3d import Aware3DBlock, SR3DBlock
from training.backbone import Generator, SynthesisNetwork
from training.discriminator import (
    Discriminator,
    DiscriminatorBlock,
    DiscriminatorEpilogue,
    MinibatchStdLayer,
)
from training.layers import (
    Conv2dLayer,
    FullyConnectedLayer,
    MappingNetwork,
    modulated_conv2d,
    normalize_2nd_moment,
)
from training.synthesis import SynthesisBlock, SynthesisLayer, ToRGBLayer

__all__ = [
    "Aware3DBlock",
    "Conv2dLayer",
    "Discriminator",
    "DiscriminatorBlock",
    "DiscriminatorEpilogue",
    "FullyConnectedLayer",
    "Generator",
    "MappingNetwork",
    "MinibatchStdLayer",
    "SR3DBlock",
    "SynthesisBlock",
    "SynthesisLayer",
    "SynthesisNetwork",
    "ToRGBLayer",
    "modulated_conv2d",
    "normalize_2nd_moment",
]
