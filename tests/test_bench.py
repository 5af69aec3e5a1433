"""The benchmark measures what it says: the same work in both loops, shares that add up."""

import json

import pytest
import torch

from benchmarks import bench
from deepnets import models

CPU = torch.device("cpu")


def test_it_emits_json_and_speaks_on_stderr_meanwhile(capsys):
    few = ["--networks", "resnet18,resnet8", "--repeats", "2", "--seconds", "0.1", "--batch", "4"]
    bench.main([*few, "--device", "cpu", "--precision", "fp32"])
    output = capsys.readouterr()
    results = json.loads(output.out)
    assert "resnet18" in output.err
    compared, alone = results["networks"]
    assert "ratio" not in alone, "torchvision has no CIFAR ResNet"
    assert "same_precision" not in compared, "ours is fp32, as the usual loop's is"
    for ratios in (compared, results["input"]):
        assert ratios["ratio_low"] <= ratios["ratio"] <= ratios["ratio_high"]
    for row in results["networks"]:
        assert sum(row["time"].values()) == pytest.approx(1)
        assert min(row["time"].values()) > 0
        gflops = row["ours"] * 6 * models.multiply_adds(models.blueprint(row["name"]), 64) / 1e9
        assert row["share_of_peak"] == pytest.approx(gflops / results["peak"]["fp32"])


def test_a_mistake_is_named_before_anything_is_measured(capsys):
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--networks", "resnet8,resnet19x"])
    output = capsys.readouterr()
    assert "resnet19x" in output.err
    assert (len(output.err.splitlines()), output.out) == (1, "")


def test_both_loops_train_the_same_network_on_the_same_kind_of_images():
    for name in (*bench.NETWORKS, "vgg13", "resnet34"):
        with torch.device("meta"):
            usual = bench.usual_network(name)
        assert models.count_parameters(usual) == models.count_parameters(models.blueprint(name))
    images, labels = next(iter(bench.usual_loader(CPU, 4)))
    assert (images.shape, images.dtype) == ((4, 3, 64, 64), torch.float32)
    assert labels.shape == (4,)


@pytest.mark.parametrize(("precision", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_usual_loop_trains(precision, kind):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 10))
    before, seen = network[1].weight.detach().clone(), set()
    network.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    assert bench.usual_loop(network, CPU, 4, 2, precision=precision) > 0
    assert not torch.equal(network[1].weight, before)
    assert seen == {kind}


def test_in_bf16_the_usual_loop_is_measured_in_both_precisions(monkeypatch):
    seconds = {"fp32": 100.0, "bf16": 10.0}
    monkeypatch.setattr(bench, "usual_network", lambda name: torch.nn.Linear(1, 1))
    monkeypatch.setattr(bench, "usual_loop", lambda *arguments, precision: seconds[precision])
    row = bench.loops("resnet8", bench.Settings(CPU, "bf16", 4, 2, 0.1), 100)
    assert row["usual"] == pytest.approx(row["steps"] * 4 / 100)
    assert row["same_precision"]["usual"] == pytest.approx(row["steps"] * 4 / 10)
    assert row["ratio"] == pytest.approx(10 * row["same_precision"]["ratio"])
