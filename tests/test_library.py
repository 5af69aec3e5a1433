"""The networks and runs in other programs: exported, scripted, taken apart; loaded in one line;
away from the checkout.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from torch.export import Dim
from torch.utils.data import DataLoader
from torchvision.models.feature_extraction import create_feature_extractor

import deepnets
from deepnets import cli, data, models, runs
from deepnets.errors import UserError
from deepnets.models.layers import window_edges
from deepnets.training import fit

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
    exported = torch.export.export(
        network, (images[:2],), dynamic_shapes=({0: Dim.DYNAMIC},)
    ).module()
    assert differs(exported(images), logits) < 1e-4


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_every_network_is_scripted(network, images, logits):
    scripted = torch.jit.script(network)
    with torch.no_grad(), torch.jit.optimized_execution(False):
        assert differs(scripted(images), logits) < 1e-4
        with pytest.raises(
            torch.jit.Error, match=r"ValueError: a network takes images \(N, C, H, W\), not 3 axes"
        ):
            scripted(images[0])


def test_torchvision_extracts_the_maps_of_every_network(network, images, logits):
    maps = network.maps(images)
    found = create_feature_extractor(
        network, {f"stages.{name}": name for name in maps} | {"classifier": "logits"}
    )(images)
    assert differs(found.pop("logits"), logits) < 1e-4
    assert found.keys() == maps.keys()
    for name, values in maps.items():
        assert torch.equal(found[name], values), name


@pytest.mark.parametrize("dynamo", [True, False], ids=["exported", "traced"])
@pytest.mark.filterwarnings("ignore")  # of the exporters about themselves
def test_every_network_gives_the_same_in_onnx(network, images, logits, dynamo, tmp_path):
    why = "ONNX is tried where onnx, onnxscript and onnxruntime are installed, which the project does not need"
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=why)
    onnxruntime = pytest.importorskip("onnxruntime", reason=why)
    axes = (
        {"dynamic_shapes": ({0: Dim.DYNAMIC},)}
        if dynamo
        else {"dynamic_axes": {"images": {0: "batch"}}}
    )
    names = {"input_names": ["images"], "verbose": False}
    torch.onnx.export(
        network, (images[:2],), tmp_path / "network.onnx", dynamo=dynamo, **names, **axes
    )
    (found,) = onnxruntime.InferenceSession(tmp_path / "network.onnx").run(
        None, {"images": images.numpy()}
    )
    assert differs(torch.from_numpy(found), logits) < 1e-3


class TowardsZero(int):
    """An integer that is divided as ONNX does: towards zero."""

    def __neg__(self):
        return TowardsZero(-int(self))

    def __add__(self, other):
        return TowardsZero(int(self) + other)

    def __sub__(self, other):
        return TowardsZero(int(self) - other)

    def __mul__(self, other):
        return TowardsZero(int(self) * other)

    def __floordiv__(self, other):
        return TowardsZero(int(Fraction(int(self), other)))

    __radd__, __rmul__ = __add__, __mul__


@pytest.mark.parametrize("number", [int, TowardsZero])
@pytest.mark.parametrize("size", [1, 4, 5, 6, 7])
def test_the_windows_of_a_pool_are_pytorchs_also_where_division_is_towards_zero(number, size):
    assert -TowardsZero(3) // 2 == -1
    for side in range(1, 15):
        share = Fraction(side, size)
        assert window_edges(number(side), size) == [
            (floor(i * share), ceil((i + 1) * share)) for i in range(size)
        ]


def test_one_image_without_its_batch_is_named():
    network = models.create("resnet8")
    with pytest.raises(
        ValueError, match=r"a network takes images \(N, C, H, W\), not 3 axes; images\[None\] makes"
    ):
        network(torch.randn(3, 32, 32))
    with pytest.raises(ValueError, match="not 3 axes"):
        network.maps(torch.randn(3, 32, 32))
    with pytest.raises(ValueError, match="not 2 axes"):
        create_feature_extractor(network, ["stages.conv1"])(torch.randn(32, 32))


# --- data sets and runs


def test_a_data_loader_takes_a_data_set():
    train = data.load("digits").train
    image, label = train[-1]
    assert torch.equal(image, train.images[-1])
    assert label == train.labels[-1]
    assert type(label) is int
    assert len([*train]) == len(train)
    batches = [*DataLoader(train, batch_size=100, shuffle=True)]
    assert [len(labels) for _, labels in batches] == [100] * 14 + [37]
    assert batches[0][0].shape == (100, 1, 8, 8)
    shuffled = sum(images.long().sum((1, 2, 3)) @ labels for images, labels in batches)
    assert shuffled == train.images.long().sum((1, 2, 3)) @ train.labels, "each image has its label"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from deepnets import recipes
    from deepnets.training import Job

    recipe = recipes.get("tuned", "resnet8", epochs=1, batch_size=16)
    return fit(
        Job("resnet8", "digits", recipe, limit=60, input_size=16),
        tmp_path_factory.mktemp("runs"),
        verbose=False,
    )


def test_a_run_is_loaded_in_one_line(run):
    network, classes, transform = deepnets.load(str(run.path))
    assert not network.training
    assert classes == tuple("0123456789")
    with torch.no_grad():
        predicted = network(transform(data.load("digits").test.images)).argmax(1)
    assert np.mean(predicted.numpy() == run.test["predicted"]) > 0.99
    with pytest.raises(ValueError, match=r"a transform takes images .* not 3 axes"):
        transform(data.load("digits").train[0][0])


def test_what_was_not_trained_is_named(run, tmp_path):
    for wrong, says in (
        ("resnet20", "there is no run in resnet20: 'deepnets train MODEL' makes one"),
        (tmp_path, "is not a run"),
    ):
        with pytest.raises(UserError, match=says):
            deepnets.load(wrong)
    folder = shutil.copytree(run.path, tmp_path / "run")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights"):
        deepnets.load(folder)


@pytest.mark.parametrize("change", ["lacks one", "one more", "of other shape", "no safetensors"])
def test_weights_of_another_network_are_named(run, change, tmp_path):
    folder = shutil.copytree(run.path, tmp_path / "run")
    file = folder / "model.safetensors"
    weights = load_file(file)
    bias = weights.pop("classifier.1.bias")
    changed = {
        "one more": {"classifier.1.bias": bias, "other": bias + 1},
        "of other shape": {"classifier.1.bias": bias[:3]},
    }
    file.write_bytes(
        b"weights" if change == "no safetensors" else save(weights | changed.get(change, {}))
    )
    info = json.loads((folder / "run.json").read_text()) | {
        "weights_sha256": runs.weights_sha256(folder)
    }
    (folder / "run.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="does not hold the weights of the network") as found:
        deepnets.load(folder)
    assert "\n" not in str(found.value)


def python(*arguments, path, cwd=ROOT):
    """Runs Python on the package in the folder `path`."""
    environment = os.environ | {"PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=cwd,
    )


def test_the_package_itself_imports_nothing_large():
    code = (
        "import sys, deepnets; print(callable(deepnets.load), {'torch', 'numpy'} & {*sys.modules})"
    )
    assert python("-c", code, path=ROOT).stdout == "True set()\n"


# --- away from the checkout


@pytest.mark.parametrize("command", ["compare", "study studies/demo.toml"])
def test_a_command_that_needs_the_repository_says_so(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(command.split()) == 2
    assert re.fullmatch(
        r"deepnets: (results|studies)\b.*; run this in a clone of the repository\n",
        capsys.readouterr().err,
    )
    assert not [*tmp_path.iterdir()]


def test_what_the_notebooks_share_says_that_it_needs_the_repository(tmp_path):
    shutil.copytree(ROOT / "deepnets", tmp_path / "deepnets")  # what a wheel has: the package alone
    done = python("-c", "import deepnets.notebook", path=tmp_path, cwd=tmp_path)
    assert done.returncode == 1, done
    assert done.stderr.splitlines()[-1].endswith("are in the repository: install it with pip -e")
