"""AlexNet (Krizhevsky, Sutskever and Hinton 2012): five convolutions and three linear layers.

There are two forms. The one tower is torchvision's, after the 2014 "one weird trick" paper, whose
fourth convolution has 384 channels, here 256. The published network was split over two GPUs: its
second, fourth and fifth convolutions see only the channels on their own GPU.

At 64x64 the maps of the one tower shrink to 15, 7, 3 and 1, and the 6x6 pool before the linear
layers copies one value 36 times. Those of the published form would shrink to nothing. So its pools
round up (ceil mode): 14, 7, 3, 1. At the published size that changes nothing.
"""

from torch import nn

from .layers import AdaptivePool, LocalResponseNorm, Network, conv, he_initialise

# Each convolution: width, kernel, stride, padding, groups, and what follows its ReLU: N for
# normalisation, P for a 3x3 pool of stride 2.
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
    """AlexNet: torchvision's one tower, unless options say otherwise.

    As published (section 3) it has two groups, local response normalisation, and dropout after the
    hidden linear layers instead of before them. Its weights are He's here: the published ones,
    normal with deviation 0.01 and biases of one (section 5), were made for 90 epochs of 1.2 million
    images.
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
        table = TWO_GROUPS if as_published else ONE_TOWER
        for number, (width, kernel, stride, padding, groups, after) in enumerate(table, start=1):
            layer = conv(channels, width, kernel, stride=stride, padding=padding, groups=groups)
            stages[f"conv{number}"] = layer
            if "N" in after:
                stages[f"norm{number}"] = LocalResponseNorm()
            if "P" in after:
                stages[f"pool{number}"] = nn.MaxPool2d(3, 2, ceil_mode=as_published)
            channels = width
        drop = nn.Dropout(dropout)
        fc6, fc7 = nn.Linear(256 * 6 * 6, 4096), nn.Linear(4096, 4096)
        hidden = [drop, fc6, nn.ReLU(), drop, fc7, nn.ReLU()]
        if as_published:
            hidden = [*hidden[1:], drop]
        super().__init__(
            stages,
            head=nn.Sequential(AdaptivePool("avg", 6), nn.Flatten(), *hidden),
            classifier=nn.Linear(4096, num_classes),
        )
        if as_published:
            self.apply(he_initialise)
