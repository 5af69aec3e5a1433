"""Each network is the one its paper describes: counts, torchvision's outputs and gradients, the
papers' layer details.
"""

import math

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from deepnets import models
from deepnets.errors import UserError
from deepnets.models.layers import AdaptivePool, Conv2d, LocalResponseNorm, PooledLinear
from deepnets.models.resnet import BasicBlock, PaddedShortcut

IMPROVED = ("vgg16_improved", "resnet18_improved", "googlenet_improved")
# Facts that the papers and torchvision publish: parameters by network, options, channels
AT_1000_CLASSES = (
    ("alexnet", {}, 61_100_840), ("alexnet_2012", {}, 60_965_224),
    ("vgg11", {}, 132_863_336), ("vgg11", {"batch_norm": True}, 132_868_840),
    ("vgg13", {}, 133_047_848), ("vgg16", {}, 138_357_544),
    ("vgg16", {"batch_norm": True}, 138_365_992), ("vgg19", {}, 143_667_240),
    ("googlenet_2014", {"aux": False}, 6_998_552), ("googlenet_2014", {}, 13_378_280),
    ("googlenet", {}, 6_624_904), ("googlenet", {"aux": True}, 13_004_888),
    ("resnet18", {}, 11_689_512),
)  # fmt: skip
AT_10_CLASSES = (
    ("resnet20", {}, 269_722), ("resnet20", {"shortcuts": False}, 269_722),  # A has no weights
    ("resnet32", {}, 464_154), ("resnet44", {}, 658_586), ("resnet56", {}, 853_018),
    ("resnet110", {}, 1_727_962), ("alexnet", {}, 57_044_810), ("alexnet_2012", {}, 56_909_194),
    ("vgg11", {}, 128_807_306), ("vgg16", {}, 134_301_514), ("resnet18", {}, 11_181_642),
    ("googlenet", {}, 5_610_154), ("googlenet", {"aux": True}, 9_960_638),
    ("vgg16_improved", {}, 83_978_314), ("resnet18_improved", {}, 11_247_946),
    ("googlenet_improved", {}, 5_676_458),
)  # fmt: skip
MILLION_MULTIPLY_ADDS = (  # by network, classes, side of the image
    ("alexnet", 1000, 224, 714), ("vgg11", 1000, 224, 7609), ("vgg16", 1000, 224, 15470),
    ("resnet18", 1000, 224, 1814), ("googlenet", 1000, 224, 1498),
    ("googlenet_2014", 1000, 224, 1583), ("alexnet", 10, 64, 94.1), ("vgg11", 10, 64, 730.6),
    ("vgg16", 10, 64, 1372.4), ("resnet18", 10, 64, 148.1), ("resnet20", 10, 32, 40.55),
)  # fmt: skip


def layers(network, *kinds):
    """Returns a network's layers of these kinds, by default those with weights."""
    kinds = kinds or (nn.Conv2d, nn.Linear)
    return [module for module in network.modules() if isinstance(module, kinds)]


@pytest.mark.parametrize(("classes", "table"), [(1000, AT_1000_CLASSES), (10, AT_10_CLASSES)])
def test_parameters_are_the_published_ones(classes, table):
    for name, options, count in table:
        network = models.blueprint(name, classes, **options)
        assert models.count_parameters(network) == count, (name, options)


@pytest.mark.parametrize(("name", "classes", "size", "millions"), MILLION_MULTIPLY_ADDS)
def test_multiply_adds_are_the_published_ones(name, classes, size, millions):
    counted = models.multiply_adds(models.blueprint(name, classes), size) / 1e6
    assert counted == pytest.approx(millions, abs=0.5 if millions > 200 else 0.05)


@pytest.mark.parametrize("name", models.names())
def test_grayscale_takes_two_thirds_of_the_first_convolution_and_nothing_else(name):
    colour, gray = (models.blueprint(name, in_channels=channels) for channels in (3, 1))
    first = layers(gray)[0].weight
    assert first.shape[1] == 1
    assert models.count_parameters(colour) - models.count_parameters(gray) == 2 * first.numel()


@pytest.mark.parametrize(
    ("name", "undo"),
    [
        ("vgg16", {"batch_norm": False, "head_pool": "avg7", "narrow_head": False}),
        ("resnet18", {"stem": "7x7", "dropout": 0.0, "narrow_head": False}),
        ("googlenet", {"stem": "7x7"}),
    ],
)
def test_undoing_every_improvement_gives_the_original(name, undo):
    torch.manual_seed(0)
    undone = models.create(f"{name}_improved", **undo)
    torch.manual_seed(0)
    original = models.create(name)
    assert str(undone) == str(original)
    assert all(map(torch.equal, undone.parameters(), original.parameters()))


# --- torchvision's weights give torchvision's logits and gradients


def torchvisions(name, aux=False):
    options = {"aux_logits": aux, "init_weights": True} if name == "googlenet" else {}
    return getattr(torchvision.models, name)(num_classes=10, **options)


def transplant(theirs: nn.Module, ours: models.Network) -> None:
    """Copy weights in the order of the layers (torchvision's heads come before the classifier, ours
    behind).
    """
    state = theirs.state_dict()
    names = sorted(state, key=lambda name: name.startswith("aux"))
    ours.load_state_dict(dict(zip(ours.state_dict(), map(state.get, names), strict=True)))


def randomise(network: nn.Module) -> None:
    """Batch statistics as after a training: at their defaults, mistakes in batch norm would not
    show.
    """
    for norm in layers(network, nn.BatchNorm2d):
        for tensor, centre in ((norm.running_mean, 0), (norm.running_var, 1.25)):
            nn.init.uniform_(tensor, centre - 0.5, centre + 0.5)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)


def agree(theirs, ours, maps, *, parameters=False):
    """Fails unless two modules give the same of maps, and the same gradients by the maps and by
    their parameters if asked.
    """
    results = []
    for module in (theirs, ours):
        y = module(maps.requires_grad_())
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        inputs = [maps, *(module.parameters() if parameters else [])]
        results.append([y, *torch.autograd.grad((y * weights).sum(), inputs)])
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize(
    ("name", "size"),
    [("alexnet", 64), ("alexnet", 96), ("vgg11", 64), ("vgg16", 32), ("resnet18", 64),
     ("resnet34", 48), ("googlenet", 64)],
)  # fmt: skip
def test_agrees_with_torchvision(name, size):
    torch.manual_seed(0)
    theirs, ours = torchvisions(name).double().eval(), models.create(name).double().eval()
    randomise(theirs)
    transplant(theirs, ours)
    agree(theirs, ours, torch.randn(2, 3, size, size, dtype=torch.float64))


@pytest.mark.parametrize("size", [64, 112, 224])  # at the heads 4x4, 7x7 and 14x14
def test_agrees_with_torchvision_in_training_with_auxiliary_heads(size):
    torch.manual_seed(0)
    theirs = torchvisions("googlenet", aux=True).double()
    ours = models.create("googlenet", aux=True).double()
    transplant(theirs, ours)
    for dropout in layers(theirs, nn.Dropout) + layers(ours, nn.Dropout):
        dropout.p = 0.0

    def theirs_weighted(images):
        out = theirs(images)
        return out.logits + 0.3 * (out.aux_logits1 + out.aux_logits2)

    def ours_weighted(images):
        return sum(weight * logits for weight, logits in ours.weighted_logits(images))

    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    agree(theirs_weighted, ours_weighted, images)


# --- details of the papers


def test_local_response_norm_is_the_papers_formula():
    a = torch.randn(2, 7, 3, 3, dtype=torch.float64)
    b = torch.empty_like(a)
    for i in range(7):  # Krizhevsky et al. 2012, section 3.3, written out
        near = a[:, max(0, i - 2) : min(6, i + 2) + 1]
        b[:, i] = a[:, i] / (2 + 1e-4 * near.square().sum(1)) ** 0.75
    torch.testing.assert_close(LocalResponseNorm()(a), b)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 0), (3, 1), (5, 2), (7, 3)])
@pytest.mark.parametrize("sides", [(1, 1), (2, 2), (2, 3), (4, 1), (4, 4), (8, 8), (9, 9)])
def test_a_convolution_by_matrix_product_is_pytorchs(sides, kernel, padding, stride):
    layer = Conv2d(3, 4, kernel, stride, padding).double()
    maps = torch.randn(2, 3, *sides, dtype=torch.double, requires_grad=True)
    if min(sides) + 2 * padding < kernel:
        with pytest.raises(RuntimeError, match="can't be greater than actual input size"):
            layer(maps)
        return
    theirs = nn.Conv2d(3, 4, kernel, stride, padding).double()
    theirs.load_state_dict(layer.state_dict())
    ours = layer(maps)
    by_product = "Convolution" not in type(ours.grad_fn).__name__
    assert by_product == (kernel > 1 and kernel**2 * ours[0, 0].numel() <= 64)
    agree(theirs, layer, maps, parameters=True)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize("size", [1, 4, 5, 6, 7])
@pytest.mark.parametrize("sides", [(1, 1), (2, 2), (2, 3), (4, 4), (7, 7), (8, 13)])
def test_a_pool_and_a_linear_layer_of_what_it_gives_are_pytorchs(sides, kind, size, training):
    ours = PooledLinear(6, 5, kind, size).double().train(training)
    pooled = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}[kind](size)
    theirs = nn.Sequential(pooled, nn.Flatten(), nn.Linear(6 * size**2, 5)).double()
    theirs[2].load_state_dict(ours.state_dict())
    maps = torch.randn(2, 6, *sides, dtype=torch.double)
    agree(theirs, ours, maps, parameters=True)
    agree(pooled, AdaptivePool(kind, size), maps)


@pytest.mark.parametrize("name", models.names())
def test_no_network_pools_by_what_has_no_repeatable_gradient_on_a_gpu(name):
    network = models.blueprint(name).train()
    with torch.autograd.profiler.profile() as seen:
        network.weighted_logits(torch.empty(2, 3, 64, 64, device="meta"))
    steps = {event.name for event in seen.function_events}
    assert "aten::conv2d" in steps
    assert not [step for step in steps if "adaptive" in step]


def test_option_a_shortcut_subsamples_and_pads_with_zeros():
    x = torch.randn(2, 16, 8, 8)
    y = PaddedShortcut(16, 32, 2)(x)
    assert torch.equal(y[:, :16], x[:, :, ::2, ::2])
    assert not y[:, 16:].any()


def test_without_shortcuts_a_residual_network_is_the_papers_plain_one():
    network = models.create("resnet20", 10, 3, shortcuts=False).eval()
    plain = x = torch.randn(2, 3, 32, 32)
    for stage in network.stages.children():
        for part in stage if isinstance(stage[0], BasicBlock) else [stage]:
            plain = part.residual(plain).relu() if isinstance(part, BasicBlock) else part(plain)
    torch.testing.assert_close(network(x), network.classifier(network.head(plain)))
    assert len(layers(models.blueprint("resnet18"))) == 21, "18 and three of option B"
    assert len(layers(models.blueprint("resnet18", shortcuts=False))) == 18


def test_every_batch_norm_has_the_eps_of_its_reference_implementation():
    for name in models.names():
        network = models.blueprint(name)
        stem = {*network.stages.conv1.modules()} if name == "googlenet_improved" else set()
        for norm in layers(network, nn.BatchNorm2d):
            own = name.startswith("googlenet") and norm not in stem
            assert norm.eps == (1e-3 if own else 1e-5), name


NORMALISED = [
    "conv1", "norm1", "pool1", "conv2", "norm2", "pool2", "conv3", "conv4", "conv5", "pool5",
]  # fmt: skip
SIDES_AT_227 = (55, 55, 27, 27, 27, 13, 13, 13, 13, 6)
TABLE_1 = {
    "conv1": 112, "pool1": 56, "conv2": 56, "pool2": 28, "inception3a": 28, "inception3b": 28,
    "pool3": 14, "inception4a": 14, "inception4b": 14, "inception4c": 14, "inception4d": 14,
    "inception4e": 14, "pool4": 7, "inception5a": 7, "inception5b": 7,
}  # fmt: skip
WIDTHS = [64, 64, 192, 192, 256, 480, 480, 512, 512, 512, 528, 832, 832, 832, 1024]


@pytest.mark.parametrize(
    ("name", "size", "sides"),
    [
        ("alexnet", 64, {"conv1": 15, "pool1": 7, "pool2": 3, "pool5": 1}),
        ("alexnet_2012", 64, {"conv1": 14, "pool1": 7, "pool2": 3, "pool5": 1}),
        ("alexnet_2012", 227, dict(zip(NORMALISED, SIDES_AT_227, strict=True))),
        ("googlenet", 224, TABLE_1),
        ("googlenet_2014", 224, TABLE_1),
        ("googlenet", 64, {"inception4a": 4, "inception4d": 4, "inception5b": 2}),
        ("vgg16_improved", 64, {"conv1_2": 64, "pool1": 32, "pool4": 4, "pool5": 2}),
        ("resnet18_improved", 64, {"conv1": 30, "pool1": 15, "conv2_x": 15, "conv5_x": 2}),
        ("googlenet_improved", 64, {"conv1": 30, "pool1": 15, "conv2": 15, "inception5b": 2}),
    ],
)
def test_maps_have_the_papers_sides(name, size, sides):
    maps = models.blueprint(name).maps(torch.empty(1, 3, size, size, device="meta"))
    assert {stage: maps[stage].shape[-1] for stage in sides} == sides
    if sides is TABLE_1:
        assert [maps[stage].shape[1] for stage in sides] == WIDTHS


def test_alexnet_2012_is_as_published():
    network = models.blueprint("alexnet_2012", 1000)
    counts = [models.count_parameters(layer) for layer in layers(network)]
    assert counts == [34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000]
    assert [*network.stages._modules] == NORMALISED
    assert [type(layer) for layer in network.head][2:] == 2 * [nn.Linear, nn.ReLU, nn.Dropout]


def test_googlenet_2014_is_as_published():
    network = models.blueprint("googlenet_2014")
    stages = ["conv1", "pool1", "norm1", "conv2", "norm2", "pool2"]
    assert [*network.stages._modules][:6] == stages
    assert list(network.auxiliary) == ["inception4a", "inception4d"]
    outputs = network.weighted_logits(torch.empty(1, 3, 224, 224, device="meta"))
    assert [weight for weight, _ in outputs] == [1.0, 0.3, 0.3]
    assert [layer.p for layer in layers(network, nn.Dropout)] == [0.4, 0.7, 0.7]
    convolutions = layers(network, nn.Conv2d)
    assert sum(layer.kernel_size == (5, 5) for layer in convolutions) == 9
    assert all(layer.bias is not None for layer in convolutions)
    torch.manual_seed(0)
    head = models.create("googlenet_2014").auxiliary["inception4a"].eval()
    x = torch.randn(2, 512, 14, 14)
    expected = head.reduce(F.avg_pool2d(x, 5, 3)).flatten(1)
    torch.testing.assert_close(head(x), head.classifier(F.relu(head.hidden(expected))))


def test_the_improved_networks_are_as_published():
    vgg, *others = built = [models.blueprint(name) for name in IMPROVED]
    assert (vgg.head[0].kind, vgg.head[0].size) == ("max", 5)
    assert sum(isinstance(layer, nn.Dropout) for layer in vgg.head) == 2
    dropout = [[layer.p for layer in layers(network, nn.Dropout)] for network in built]
    assert dropout == [[0.5], [0.1], [0.2]]
    for stem in (network.stages.conv1 for network in others):
        kinds = [type(layer) for block in stem for layer in block]
        assert kinds == 3 * [Conv2d, nn.BatchNorm2d, nn.ReLU]
        seen = [(c.kernel_size, c.out_channels, c.stride, c.padding, c.bias) for c in layers(stem)]
        assert seen == [((3, 3), 64, (s, s), (p, p), None) for s, p in ((2, 3), (1, 0), (1, 0))]
    without = models.blueprint("resnet18_improved", stem_norm=False).stages.conv1
    assert [len(block) for block in without] == [2, 2, 3]


# --- first weights


def published_deviation(name, path, module):
    """Returns the deviation of a layer's first weights.

    What the published comparison replaced has PyTorch's default: uniform within 1 / sqrt(fan-in).
    """
    fan_in = module.weight[0].numel()
    default, he = 1 / math.sqrt(3 * fan_in), math.sqrt(2 / fan_in)
    last = path in ("classifier", "classifier.1")
    if name in ("alexnet_2012", "googlenet_2014"):
        return he
    if name == "alexnet" or (last and name not in ("vgg16_improved", "resnet18_improved")):
        return default
    if name.startswith("googlenet"):
        new = name == "googlenet_improved" and path.startswith("stages.conv1.")
        return default if new else 0.01
    if isinstance(module, nn.Conv2d):
        return math.sqrt(2 / (module.out_channels * module.kernel_size[0] ** 2))
    return 0.01


@pytest.mark.parametrize(
    "name",
    [*IMPROVED, "alexnet", "vgg16", "resnet18", "googlenet", "alexnet_2012", "googlenet_2014"],
)
def test_first_weights_layer_by_layer(name):
    torch.manual_seed(0)
    for path, module in models.create(name).named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weights = module.weight.detach().flatten()
            expected = published_deviation(name, path, module)
            tolerance = 5 / math.sqrt(2 * len(weights))  # five standard errors of a deviation
            assert weights.std().item() == pytest.approx(expected, rel=tolerance), path
            assert abs(weights.mean().item()) < 5 * expected / math.sqrt(len(weights)), path
            default = expected == 1 / math.sqrt(3 * module.weight[0].numel())
            if module.bias is not None and not default:
                assert not module.bias.any(), path
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18", "googlenet"])
def test_dropout_stands_where_torchvisions_does(name):
    shares = []
    for network in (torchvisions(name), models.create(name)):
        found = [m for _, m in network.named_modules(remove_duplicate=False)]
        found = [m for m in found if isinstance(m, nn.Dropout | nn.Linear) and getattr(m, "p", 1)]
        shares.append([getattr(layer, "p", "linear") for layer in found])
    assert shares[0] == shares[1]


# --- names, options and shapes


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("resnet19", {}, "did you mean resnet"), ("resnet50", {}, "did you mean resnet"),
        ("perceptron", {}, "choose from alexnet"), ("vgg16", {"stem": "3x3"}, "no option 'stem'"),
        ("vgg16", {"batch_norm": "false"}, "batch_norm is true or false, without quotes"),
        ("vgg16", {"head_pool": "7"}, "avg7"), ("resnet18", {"stem": "5x5"}, "use 7x7 or 3x3"),
    ],
)  # fmt: skip
def test_a_wrong_network_is_named(name, options, says):
    with pytest.raises(UserError, match=says):
        models.create(name, **options)
