"""The networks and data sets in other programs: exported, scripted, taken apart, loaded."""

from pathlib import Path

import pytest
import torch
from torch.export import Dim
from torchvision.models.feature_extraction import create_feature_extractor

import deepnets
from deepnets import models

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", params=models.names())
def network(request):
    torch.manual_seed(0)
    return models.create(request.param).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(5, 3, 64, 64)


@pytest.fixture(scope="module")
def logits(network, images):
    with torch.no_grad():
        return network(images)


def differs(given, wanted):
    """The largest difference, in deviations: an untrained network's logits may be tiny."""
    return ((given - wanted).abs().max() / wanted.std()).item()


def test_every_network_is_exported_with_a_dynamic_batch(network, images, logits):
    batch = ({0: Dim.DYNAMIC},)
    exported = torch.export.export(network, (images[:2],), dynamic_shapes=batch).module()
    assert differs(exported(images), logits) < 1e-4


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_every_network_is_scripted(network, images, logits):
    scripted = torch.jit.script(network)
    with torch.no_grad(), torch.jit.optimized_execution(False):
        assert differs(scripted(images), logits) < 1e-4


def test_torchvision_extracts_the_maps_of_every_network(network, images, logits):
    maps = network.maps(images)
    wanted = {f"stages.{name}": name for name in maps} | {"classifier": "logits"}
    found = create_feature_extractor(network, wanted)(images)
    assert differs(found.pop("logits"), logits) < 1e-4
    assert found.keys() == maps.keys()
    assert all(torch.equal(found[name], values) for name, values in maps.items())


def test_neither_the_package_nor_help_imports_anything_large(python):
    loaded = "print({'torch', 'numpy'} & {*sys.modules})"
    for code in ("import sys, deepnets; deepnets.load; {}",
                 "import sys, deepnets.cli as cli\ntry: cli.main(['--help'])\nfinally: {}"):  # fmt: skip
        assert python("-c", code.format(loaded)).stdout.endswith("set()\n")
    version = python("-m", "deepnets", "--version").stdout
    assert version == f"deepnets {deepnets.__version__}\n"
