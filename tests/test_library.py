"""The networks and runs in other programs: exported, scripted, taken apart; loaded in one line;
away from the checkout.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export import Dim
from torchvision.models.feature_extraction import create_feature_extractor

import deepnets
from deepnets import data, models
from deepnets.errors import UserError

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


# --- runs


def test_a_run_is_loaded_in_one_line(finished):
    network, classes, transform = deepnets.load(str(finished.path))
    assert not network.training
    assert classes == tuple("0123456789")
    with torch.no_grad():
        predicted = network(transform(data.load("digits").test.images)).argmax(1)
    assert np.mean(predicted.numpy() == finished.test["predicted"]) > 0.99
    with pytest.raises(ValueError, match=r"a transform takes images .* not 3 axes"):
        transform(data.load("digits").train.images[0])


def test_what_was_not_trained_is_named(finished, tmp_path):
    for wrong, says in (("resnet20", "resnet20 is not a run"), (tmp_path, "is not a run")):
        with pytest.raises(UserError, match=says):
            deepnets.load(wrong)
    folder = shutil.copytree(finished.path, tmp_path / "run")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights"):
        deepnets.load(folder)


def test_neither_the_package_nor_help_imports_anything_large(python):
    loaded = "print({'torch', 'numpy'} & {*sys.modules})"
    for code in ("import sys, deepnets; deepnets.load; {}",
                 "import sys, deepnets.cli as cli\ntry: cli.main(['--help'])\nfinally: {}"):  # fmt: skip
        assert python("-c", code.format(loaded)).stdout.endswith("set()\n")
    version = python("-m", "deepnets", "--version").stdout
    assert version == f"deepnets {deepnets.__version__}\n"


# --- away from the checkout


def test_what_the_notebooks_share_says_that_it_needs_the_repository(python, tmp_path):
    shutil.copytree(ROOT / "deepnets", tmp_path / "deepnets")  # what a wheel has: the package alone
    done = python("-c", "import deepnets.notebook", path=tmp_path, cwd=tmp_path)
    assert done.returncode == 1, done
    assert done.stderr.splitlines()[-1].endswith("are in the repository: install it with pip -e")
