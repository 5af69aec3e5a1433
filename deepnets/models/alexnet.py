"""AlexNet (Krizhevsky, Sutskever and Hinton 2012): five convolutions, three linear layers, ReLU and
dropout.

Two forms: the one tower that the field uses today, torchvision's, after the 2014 "one weird trick"
paper (whose fourth convolution has 384 channels, here 256), and the network as published, split
over two GPUs: its second, fourth and fifth convolutions see only the channels on their own GPU.

At 64x64 the one tower's maps shrink to 15, 7, 3 and 1; the 6x6 pool before the linear layers then
makes 36 copies of one value. The published form's would shrink to nothing: its pools round up here
(ceil mode), which gives 14, 7, 3, 1 and changes nothing at the published size.
"""

from typing import Any

from torch import nn

from .layers import AdaptivePool, LocalResponseNorm, Network, conv, he_initialise

# Each convolution: width, kernel, stride, padding, groups, and what follows its ReLU (N:
# normalisation, P: 3x3 pool, stride 2).
ONE_TOWER = (
    (64, 11, 4, 2, 1, "P"),
    (192, 5, 1, 2, 1, "P"),
    (384, 3, 1, 1, 1, ""),
    (256, 3, 1, 1, 1, ""),
    (256, 3, 1, 1, 1, "P"),
)
TWO_GROUPS = (
    (96, 11, 4, 0, 1, "NP"),
    (256, 5, 1, 2, 2, "NP"),
    (384, 3, 1, 1, 1, ""),
    (384, 3, 1, 1, 2, ""),
    (256, 3, 1, 1, 2, "P"),
)


class AlexNet(Network):
    """AlexNet; without options torchvision's one tower, after Krizhevsky 2014.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images, 1 or 3.
        as_published: two groups, local response normalisation, dropout after the linear layers
            instead of before them.
        dropout: probability of zeroing an input of the two hidden linear layers; as published, an
            output.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        *,
        as_published: bool = False,
        dropout: float = 0.5,
    ) -> None:
        stages: dict[str, nn.Module] = {}
        channels = in_channels
        for number, (width, kernel, stride, padding, groups, after) in enumerate(
            TWO_GROUPS if as_published else ONE_TOWER, start=1
        ):
            stages[f"conv{number}"] = conv(
                channels, width, kernel, stride=stride, padding=padding, groups=groups
            )
            if "N" in after:
                stages[f"norm{number}"] = LocalResponseNorm()
            if "P" in after:
                stages[f"pool{number}"] = nn.MaxPool2d(3, 2, ceil_mode=as_published)
            channels = width
        drop = nn.Dropout(dropout)
        fc6, fc7 = nn.Linear(256 * 6 * 6, 4096), nn.Linear(4096, 4096)
        hidden = (
            (fc6, nn.ReLU(), drop, fc7, nn.ReLU(), drop)
            if as_published
            else (drop, fc6, nn.ReLU(), drop, fc7, nn.ReLU())
        )
        super().__init__(
            stages,
            head=nn.Sequential(AdaptivePool("avg", 6), nn.Flatten(), *hidden),
            classifier=nn.Linear(4096, num_classes),
        )
        if as_published:
            self.apply(he_initialise)


def alexnet_2012(num_classes: int = 10, in_channels: int = 3, **options: Any) -> AlexNet:
    """Build the network as published (Krizhevsky et al. 2012, section 3). Options: `AlexNet`.

    Its initialisation, normal with deviation 0.01 and biases of one (section 5), was made for 90
    epochs of 1.2 million images; He's is used here.
    """
    return AlexNet(num_classes, in_channels, as_published=True, **options)
