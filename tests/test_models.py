"""Each network is the one its paper describes: counts, torchvision's outputs and gradients, the
papers' layer details.
"""

import inspect
from itertools import pairwise

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models.googlenet import InceptionAux

from deepnets import models
from deepnets.errors import UserError
from deepnets.models.layers import AdaptivePool, Conv2d, LocalResponseNorm
from deepnets.models.resnet import BasicBlock, PaddedShortcut
from deepnets.models.shapes import module_shapes

PARAMETERS = [  # name, options, classes, channels, count
    ("alexnet", {}, 1000, 3, 61_100_840),
    ("alexnet_2012", {}, 1000, 3, 60_965_224),
    ("vgg11", {}, 1000, 3, 132_863_336),
    ("vgg16", {}, 1000, 3, 138_357_544),
    ("vgg11", {"batch_norm": True}, 1000, 3, 132_868_840),
    ("vgg16", {"batch_norm": True}, 1000, 3, 138_365_992),
    ("googlenet_2014", {"aux": False}, 1000, 3, 6_998_552),
    ("googlenet_2014", {}, 1000, 3, 13_378_280),
    ("googlenet", {}, 1000, 3, 6_624_904),
    ("googlenet", {"aux": True}, 1000, 3, 13_004_888),
    ("resnet18", {}, 1000, 3, 11_689_512),
    ("resnet20", {}, 10, 3, 269_722),
    ("resnet32", {}, 10, 3, 464_154),
    ("resnet44", {}, 10, 3, 658_586),
    ("resnet56", {}, 10, 3, 853_018),
    ("resnet110", {}, 10, 3, 1_727_962),
    ("alexnet", {}, 10, 3, 57_044_810),
    ("alexnet_2012", {}, 10, 3, 56_909_194),
    ("vgg11", {}, 10, 3, 128_807_306),
    ("vgg16", {}, 10, 3, 134_301_514),
    ("resnet18", {}, 10, 3, 11_181_642),
    ("googlenet", {}, 10, 3, 5_610_154),
    ("googlenet", {"aux": True}, 10, 3, 9_960_638),
    ("vgg16_improved", {}, 10, 3, 83_978_314),
    ("resnet18_improved", {}, 10, 3, 11_247_946),
    ("googlenet_improved", {}, 10, 3, 5_676_458),
    ("vgg16_improved", {}, 10, 1, 83_977_162),
    ("resnet18_improved", {}, 10, 1, 11_246_794),
    ("googlenet_improved", {}, 10, 1, 5_675_306),
]


@pytest.mark.parametrize(("name", "options", "classes", "channels", "count"), PARAMETERS)
def test_parameters_are_the_published_ones(name, options, classes, channels, count):
    assert models.count_parameters(models.blueprint(name, classes, channels, **options)) == count


def test_alexnet_2012_agrees_with_the_paper_layer_by_layer():
    network = models.blueprint("alexnet_2012", 1000)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    counts = [models.count_parameters(layer) for layer in layers]
    assert counts == [34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000]


@pytest.mark.parametrize(
    ("name", "classes", "size", "millions"),
    [
        ("alexnet", 1000, 224, 714),
        ("vgg11", 1000, 224, 7609),
        ("vgg16", 1000, 224, 15470),
        ("resnet18", 1000, 224, 1814),
        ("googlenet", 1000, 224, 1498),
        ("googlenet_2014", 1000, 224, 1583),
        ("alexnet", 10, 64, 94.1),
        ("vgg11", 10, 64, 730.6),
        ("vgg16", 10, 64, 1372.4),
        ("resnet18", 10, 64, 148.1),
        ("resnet20", 10, 32, 40.55),
    ],
)
def test_multiply_adds_are_the_published_ones(name, classes, size, millions):
    counted = models.multiply_adds(models.blueprint(name, classes), size) / 1e6
    assert counted == pytest.approx(millions, abs=0.5 if millions > 200 else 0.05)


@pytest.mark.parametrize("name", models.names())
def test_grayscale_changes_the_first_convolution_and_nothing_else(name):
    colour, gray = (models.blueprint(name, in_channels=channels) for channels in (3, 1))
    different = [
        key
        for (key, a), b in zip(colour.state_dict().items(), gray.state_dict().values(), strict=True)
        if a.shape != b.shape
    ]
    assert len(different) == 1
    first = next(module for module in gray.modules() if isinstance(module, nn.Conv2d))
    assert first.in_channels == 1
    removed = models.count_parameters(colour) - models.count_parameters(gray)
    assert removed == 2 * first.kernel_size[0] ** 2 * first.out_channels


@pytest.mark.parametrize("name", models.names())
def test_every_network_gives_logits_and_features(name):
    network = models.create(name, 7, 1).eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        features = network.features(images)
        assert features.ndim == 2
        torch.testing.assert_close(network.classifier(features), network(images))
        assert network(images).shape == (2, 7)
        *_, last = network.maps(images).values()
        torch.testing.assert_close(network.head(last), features)


@pytest.mark.parametrize("name", ["vgg16_improved", "resnet18_improved", "googlenet_improved"])
def test_undoing_every_improvement_gives_the_original(name):
    undo = {
        "vgg16_improved": {"batch_norm": False, "head_pool": "avg7", "narrow_head": False},
        "resnet18_improved": {"stem": "7x7", "dropout": 0.0, "narrow_head": False},
        "googlenet_improved": {"stem": "7x7"},
    }[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        undone = models.create(name, **undo)
        torch.manual_seed(0)
        original = models.create(name.removesuffix("_improved"))
    assert str(undone) == str(original)
    for a, b in zip(undone.parameters(), original.parameters(), strict=True):
        assert torch.equal(a, b)


# --- torchvision's weights give torchvision's logits and gradients


def transplant(theirs: nn.Module, ours: models.Network) -> None:
    """Copy weights in the order of the layers (torchvision's heads come before the classifier, ours
    behind).
    """
    state = theirs.state_dict()
    names = [k for k in state if not k.startswith("aux")] + [
        k for k in state if k.startswith("aux")
    ]
    values = iter(state[name] for name in names)
    ours.load_state_dict({key: next(values) for key in ours.state_dict()})
    assert next(values, None) is None


def randomise(network: nn.Module) -> None:
    """Batch statistics as after a training: at their defaults, mistakes in batch norm would not
    show.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("alexnet", 64),
        ("alexnet", 96),
        ("vgg11", 64),
        ("vgg16", 32),
        ("resnet18", 64),
        ("resnet34", 48),
        ("googlenet", 64),
    ],
)
def test_agrees_with_torchvision(name, size):
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    theirs = getattr(torchvision.models, name)(num_classes=10, **options).double().eval()
    randomise(theirs)
    ours = models.create(name).double().eval()
    transplant(theirs, ours)
    images = torch.randn(2, 3, size, size, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 10, dtype=torch.float64)
    results = []
    for network in (theirs, ours):
        logits = network(images)
        results.append((logits, torch.autograd.grad((logits * weights).sum(), images)[0]))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("size", [64, 96])
def test_agrees_with_torchvision_in_training_with_auxiliary_heads(size):
    torch.manual_seed(0)
    theirs = torchvision.models.googlenet(
        num_classes=10, aux_logits=True, init_weights=True
    ).double()
    ours = models.create("googlenet", aux=True).double()
    transplant(theirs, ours)
    for network in (theirs, ours):
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    images = torch.randn(3, 3, size, size, dtype=torch.float64, requires_grad=True)
    out = theirs(images)
    expected = out.logits + 0.3 * out.aux_logits1 + 0.3 * out.aux_logits2
    outputs = ours.weighted_logits(images)
    assert [weight for weight, _ in outputs] == [1.0, 0.3, 0.3]
    got = sum(weight * logits for weight, logits in outputs)
    torch.testing.assert_close(got, expected)
    gradients = [torch.autograd.grad(value.square().sum(), images)[0] for value in (expected, got)]
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("side", [4, 7, 14])
def test_an_auxiliary_head_agrees_with_torchvisions(side):
    torch.manual_seed(0)
    theirs = InceptionAux(512, 10).double().eval()
    randomise(theirs)
    ours = models.create("googlenet", aux=True).auxiliary["inception4a"].double().eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(2, 512, side, side, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))


# --- details of the papers


def test_local_response_norm_is_the_papers_formula():
    a = torch.randn(2, 7, 3, 3, dtype=torch.float64)
    b = torch.empty_like(a)
    for i in range(7):  # Krizhevsky et al. 2012, section 3.3, written out
        near = a[:, max(0, i - 2) : min(6, i + 2) + 1]
        b[:, i] = a[:, i] / (2 + 1e-4 * near.square().sum(1)) ** 0.75
    torch.testing.assert_close(LocalResponseNorm()(a), b)
    torch.testing.assert_close(nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)(a), b)


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
    ours, theirs = layer(maps), F.conv2d(maps, layer.weight, layer.bias, stride, padding)
    by_product = "Convolution" not in type(ours.grad_fn).__name__
    assert by_product == (kernel > 1 and kernel**2 * ours[0, 0].numel() <= 64)
    torch.testing.assert_close(ours, theirs)
    inputs, seed = [maps, layer.weight, layer.bias], torch.randn_like(theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs, seed), torch.autograd.grad(theirs, inputs, seed)
    )


def test_a_1x1_convolution_is_a_matrix_product_in_bf16_alone():
    layer, maps = Conv2d(16, 8, 1), torch.randn(2, 16, 4, 4)
    expected = F.conv2d(maps, layer.weight, layer.bias)
    for on in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            found = layer(maps)
        assert ("Convolution" in type(found.grad_fn).__name__) == (not on)
        assert found.dtype == (torch.bfloat16 if on else torch.float32)
        torch.testing.assert_close(
            found.float(), expected, atol=0.02 if on else 1e-5, rtol=0.02 if on else 1e-5
        )


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize("size", [1, 4, 5, 6, 7])
@pytest.mark.parametrize("side", [1, 2, 3, 7, 8, 13])
def test_adaptive_pool_is_pytorchs(kind, size, side):
    x = torch.randn(2, 3, side, side, dtype=torch.float64, requires_grad=True)
    oracle = F.adaptive_avg_pool2d if kind == "avg" else F.adaptive_max_pool2d
    weights = torch.randn(2, 3, size, size, dtype=torch.float64)
    results = [
        (y, torch.autograd.grad((y * weights).sum(), x)[0])
        for y in (AdaptivePool(kind, size)(x), oracle(x, size))
    ]
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("name", models.names())
def test_no_network_pools_by_what_has_no_repeatable_gradient_on_a_gpu(name):
    network = models.create(name, 10, 3)
    left, seen = [network(torch.randn(2, 3, 64, 64)).sum().grad_fn], set()
    while left:
        seen.add(node := left.pop())
        left += [parent for parent, _ in node.next_functions if parent and parent not in seen]
    names = {type(node).__name__ for node in seen}
    assert "ConvolutionBackward0" in names
    assert not [name for name in names if "Adaptive" in name]


def test_option_a_shortcut_subsamples_and_pads_with_zeros():
    x = torch.randn(2, 16, 8, 8)
    y = PaddedShortcut(16, 32, 2)(x)
    assert torch.equal(y[:, :16], x[:, :, ::2, ::2])
    assert not y[:, 16:].any()
    assert not list(PaddedShortcut(16, 32, 2).parameters())


def test_cifar_resnet_has_6n_plus_2_layers_and_no_projection():
    network = models.blueprint("resnet56")
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 56
    assert not [m for m in layers if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]


def test_without_shortcuts_a_residual_network_is_the_papers_plain_one():
    network = models.create("resnet20", 10, 3, shortcuts=False).eval()
    assert models.count_parameters(network) == 269_722, "option A has no weights"
    assert not [
        module for module in network.modules() if isinstance(module, nn.Identity | PaddedShortcut)
    ]
    x = torch.randn(2, 3, 32, 32)
    plain = x
    for stage in network.stages.children():
        for part in stage if isinstance(stage[0], BasicBlock) else [stage]:
            plain = part.residual(plain).relu() if isinstance(part, BasicBlock) else part(plain)
    torch.testing.assert_close(network(x), network.classifier(network.head(plain)))
    wide = models.create("resnet18", 10, 3, shortcuts=False)
    assert models.count_parameters(models.create("resnet18", 10, 3)) - models.count_parameters(
        wide
    ) == sum(
        first * second + 2 * second for first, second in ((64, 128), (128, 256), (256, 512))
    ), "option B has"


def test_every_batch_norm_has_the_eps_of_its_reference_implementation():
    for name in models.names():
        # published with another: tests/test_published.py
        stem = "stages.conv1." if name == "googlenet_improved" else " "
        expected = 1e-3 if name.startswith("googlenet") else 1e-5
        norms = {
            path: m
            for path, m in models.blueprint(name).named_modules()
            if isinstance(m, nn.BatchNorm2d)
        }
        assert {m.eps for path, m in norms.items() if not path.startswith(stem)} <= {expected}
    for name in ("alexnet", "alexnet_2012", "vgg11", "vgg13", "vgg16", "vgg19", "googlenet_2014"):
        assert not [m for m in models.blueprint(name).modules() if isinstance(m, nn.BatchNorm2d)]


def sides(name: str, size: int, **options) -> dict[str, int]:
    network = models.blueprint(name, **options)
    maps = network.maps(torch.empty(1, 3, size, size, device="meta"))
    return {stage: x.shape[-1] for stage, x in maps.items()}


def test_alexnet_2012_has_the_papers_maps_and_survives_64_pixels():
    published = sides("alexnet_2012", 227)
    assert [published[s] for s in ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5")] == [
        55,
        27,
        27,
        13,
        13,
        6,
    ]
    small = sides("alexnet_2012", 64)
    assert [small[s] for s in ("conv1", "pool1", "pool2", "pool5")] == [14, 7, 3, 1]
    assert [sides("alexnet", 64)[s] for s in ("conv1", "pool1", "pool2", "pool5")] == [15, 7, 3, 1]


def test_alexnet_2012_normalises_before_pooling_behind_the_first_two_convolutions():
    stages = list(models.blueprint("alexnet_2012").stages._modules)
    assert " ".join(stages) == "conv1 norm1 pool1 conv2 norm2 pool2 conv3 conv4 conv5 pool5"


@pytest.mark.parametrize("name", ["googlenet", "googlenet_2014"])
def test_googlenet_has_table_1s_maps(name):
    table = {
        "conv1": (64, 112), "pool1": (64, 56), "conv2": (192, 56), "pool2": (192, 28), "inception3a": (256, 28),
        "inception3b": (480, 28), "pool3": (480, 14), "inception4a": (512, 14), "inception4b": (512, 14),
        "inception4c": (512, 14), "inception4d": (528, 14), "inception4e": (832, 14), "pool4": (832, 7),
        "inception5a": (832, 7), "inception5b": (1024, 7),
    }  # fmt: skip
    maps = models.blueprint(name).maps(torch.empty(1, 3, 224, 224, device="meta"))
    assert {
        s: (x.shape[1], x.shape[2]) for s, x in maps.items() if not s.startswith("norm")
    } == table
    small = sides(name, 64)
    assert (small["inception4a"], small["inception4d"], small["inception5b"]) == (4, 4, 2)


def test_googlenet_2014_is_as_published():
    network = models.blueprint("googlenet_2014")
    stages = list(network.stages._modules)
    assert stages.index("norm1") == stages.index("pool1") + 1
    assert stages.index("norm2") == stages.index("conv2") + 1
    assert list(network.auxiliary) == ["inception4a", "inception4d"]
    assert [
        weight for weight, _ in network.weighted_logits(torch.empty(1, 3, 224, 224, device="meta"))
    ] == [1.0, 0.3, 0.3]
    assert {head.dropout.p for head in network.auxiliary.values()} == {0.7}
    assert network.classifier[0].p == 0.4
    larger = [
        m for m in network.stages.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (5, 5)
    ]
    assert len(larger) == 9
    assert all(m.bias is not None for m in network.modules() if isinstance(m, nn.Conv2d))


def test_published_heads_pool_5x5_with_stride_3_at_the_published_size():
    torch.manual_seed(0)
    head = models.create("googlenet_2014").auxiliary["inception4a"].eval()
    x = torch.randn(2, 512, 14, 14)
    expected = head.reduce(F.avg_pool2d(x, 5, 3)).flatten(1)
    assert expected.shape == (2, 2048)
    torch.testing.assert_close(head(x), head.classifier(F.relu(head.hidden(expected))))


def test_the_improved_stem_is_three_3x3_convolutions_64_wide_with_norm_between():
    for name in ("resnet18_improved", "googlenet_improved"):
        stem = models.blueprint(name).stages.conv1
        kinds = [type(m) for m in stem.modules() if not list(m.children())]
        assert kinds == [Conv2d, nn.BatchNorm2d, nn.ReLU] * 3
        convolutions = [m for m in stem.modules() if isinstance(m, nn.Conv2d)]
        assert [(m.out_channels, m.kernel_size, m.stride) for m in convolutions] == [
            (64, (3, 3), (2, 2)), (64, (3, 3), (1, 1)), (64, (3, 3), (1, 1)),
        ]  # fmt: skip
        plain = models.blueprint(name, stem_norm=False).stages.conv1
        assert len([m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]) == 1


@pytest.mark.parametrize("name", ["alexnet_2012", "googlenet_2014"])
def test_he_initialisation_has_hes_variance(name):
    torch.manual_seed(0)
    for module in models.create(name).modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.numel() > 30_000:
            fan_in = module.weight[0].numel()
            assert module.weight.var().item() == pytest.approx(2 / fan_in, rel=0.05)
            assert module.bias is None or not module.bias.any()


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18", "googlenet"])
def test_initial_weights_and_dropout_are_torchvisions(name):
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    both = getattr(torchvision.models, name)(num_classes=10, **options), models.create(name)
    pairs = [
        [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)] for network in both
    ]
    for number, (theirs, ours) in enumerate(zip(*pairs, strict=True), start=1):
        # the last layer, of ten classes, is a new one with PyTorch's default (Skoularikis 2021)
        if number == len(pairs[0]):
            theirs.reset_parameters()
        assert ours.weight.std().item() == pytest.approx(theirs.weight.std().item(), rel=0.1)
        if theirs.bias is not None and theirs.bias.numel() >= 64:
            assert ours.bias.std().item() == pytest.approx(
                theirs.bias.std().item(), rel=0.4, abs=1e-8
            )
    shares = []
    for network in both:  # of dropout, and between which linear layers it stands
        layers = [
            m
            for _, m in network.named_modules(remove_duplicate=False)
            if isinstance(m, nn.Dropout | nn.Linear)
        ]
        shares.append([getattr(m, "p", "linear") for m in layers if getattr(m, "p", 1) > 0])
    assert shares[0] == shares[1]


def test_what_makes_the_improved_networks_improved():
    vgg, resnet, googlenet = (
        models.blueprint(f"{name}_improved") for name in ("vgg16", "resnet18", "googlenet")
    )
    maps = torch.randn(1, 3, 7, 7)
    pool = next(m for m in vgg.head.modules() if isinstance(m, AdaptivePool))
    torch.testing.assert_close(pool(maps), F.adaptive_max_pool2d(maps, 5))
    dropout = [
        [m.p for m in network.modules() if isinstance(m, nn.Dropout)]
        for network in (vgg, resnet, googlenet)
    ]
    assert dropout == [[0.5], [0.1], [0.2]]


@pytest.mark.parametrize("name", ["vgg11", "googlenet_2014", "resnet20"])
def test_the_signal_survives_initialisation(name):
    torch.manual_seed(0)
    network = models.create(name).eval()
    with torch.no_grad():
        maps = network.maps(torch.randn(4, 3, 64, 64))
    for stage, x in maps.items():
        assert 0.01 < x.std() < 100, stage


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("resnet19", {}, "6n"),
        ("resnet50", {}, "did you mean resnet"),
        ("vgg61", {}, "did you mean vgg1"),
        ("perceptron", {}, "choose from alexnet"),
        ("vgg16", {"stem": "3x3"}, "no option 'stem'"),
        ("vgg16", {"batch_norm": "false"}, "batch_norm is true or false, without quotes"),
        ("vgg16", {"batch_norm": "no"}, "batch_norm is true or false, without quotes"),
        ("googlenet", {"aux": 1}, "aux is true or false"),
        ("vgg16", {"head_pool": "7"}, "avg7"),
        ("resnet18", {"stem": "5x5"}, "use 7x7 or 3x3"),
        ("googlenet", {"stem": "5x5"}, "use 7x7 or 3x3"),
    ],
)
def test_a_wrong_network_is_named(name, options, says):
    with pytest.raises(UserError, match=says):
        models.create(name, **options)


def test_every_option_that_is_true_or_false_is_known_to_be_one():
    classes = {type(models.blueprint(name)) for name in models.names()}
    arguments = {
        name: given.default
        for made in classes
        for name, given in inspect.signature(made).parameters.items()
    }
    assert {name for name, default in arguments.items() if isinstance(default, bool)} <= set(
        models.SWITCHES
    )


def test_a_trace_has_the_papers_stages():
    trace = models.trace(models.blueprint("resnet18"), 64)
    assert [step["name"] for step in trace][-2:] == ["head", "classifier"]
    assert trace[0]["shape"] == (64, 32, 32)
    weights = models.count_parameters(models.blueprint("resnet18"))
    assert sum(step["parameters"] for step in trace) == weights


def test_every_module_takes_what_the_one_before_gives():
    network = models.blueprint("resnet18", in_channels=1)
    shapes = module_shapes(network, 64, 1)
    stages = [*network.stages, network.head, network.classifier]
    assert shapes[stages[0]][0] == (1, 64, 64)
    assert all(shapes[a][1] == shapes[b][0] for a, b in pairwise(stages))
    assert shapes[network][1] == shapes[network.classifier][1] == (10,)
    assert not any(module._forward_hooks for module in network.modules())


def test_images_too_small_for_a_network_are_refused():
    for measure in (models.multiply_adds, models.trace, module_shapes):
        with pytest.raises(UserError, match=r"32x32 are too small for this network; take 64"):
            measure(models.blueprint("alexnet"), 32)
