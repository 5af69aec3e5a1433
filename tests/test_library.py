"""The networks and data sets in other programs: exported, scripted, taken apart, loaded."""

import pytest
import torch
from torch.export import Dim
from torchvision.models.feature_extraction import create_feature_extractor

import deepnets
from deepnets import models


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("name", models.names())
def test_every_network_is_exported_scripted_and_taken_apart(name):
    """With `torch.export` and a dynamic batch, TorchScript, and torchvision's extractor of maps."""
    torch.manual_seed(0)
    network, images = models.create(name).eval(), torch.randn(5, 3, 64, 64)
    batch, maps = ({0: Dim.DYNAMIC},), network.maps(images)
    wanted = {f"stages.{stage}": stage for stage in maps} | {"classifier": "logits"}
    found = create_feature_extractor(network, wanted)(images)
    exported = torch.export.export(network, (images[:2],), dynamic_shapes=batch).module()
    with torch.no_grad(), torch.jit.optimized_execution(False):
        logits, scripted = network(images), torch.jit.script(network)(images)
    for given in (exported(images), scripted, found.pop("logits")):
        # In deviations: an untrained network's logits may be tiny
        assert ((given - logits).abs().max() / logits.std()).item() < 1e-4
    assert found.keys() == maps.keys()
    assert all(torch.equal(found[stage], values) for stage, values in maps.items())


def test_neither_the_package_nor_help_imports_anything_large(python):
    loaded = "print({'torch', 'numpy'} & {*sys.modules})"
    for code in ("import sys, deepnets; deepnets.load; {}",
                 "import sys, deepnets.cli as cli\ntry: cli.main(['--help'])\nfinally: {}"):  # fmt: skip
        assert python("-c", code.format(loaded)).stdout.endswith("set()\n")
    version = python("-m", "deepnets", "--version").stdout
    assert version == f"deepnets {deepnets.__version__}\n"
