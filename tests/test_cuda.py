"""On a GPU a training is as repeatable as on a processor, recorded steps are those that were
recorded; skipped without one.
"""

from pathlib import Path

import pytest
import torch
from fuzz import same

from deepnets import data, models
from deepnets.data import images
from deepnets.training import OutOfTime, fit
from deepnets.training.hardware import device_and_precision, set_up
from deepnets.training.loop import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

HOW = {"verbose": False, "device": "cuda"}


@pytest.mark.parametrize("name", ["resnet18_improved", "googlenet", "vgg16_improved", "alexnet"])
def test_a_training_repeats_bit_for_bit_however_often_it_stops(job, tmp_path, name):
    settings = job(name, "best", limit=300, input_size=64, epochs=3)
    whole = fit(settings, tmp_path / "a", **HOW)
    for _ in range(5):
        with pytest.raises(OutOfTime):
            fit(settings, tmp_path / "b", stop=lambda: True, **HOW)
    same(whole, fit(settings, tmp_path / "b", **HOW))


@pytest.mark.parametrize("name", ["resnet20", "resnet18_improved", "googlenet", "vgg11"])
def test_recorded_steps_are_the_steps(job, name):
    """Batches of two sizes, dropout, augmentation and cutout: nothing but the launching changes."""
    states = []
    set_up(device_and_precision("cuda")[0])
    for recorded in (True, False):
        settings = job(name, "best", limit=155, input_size=64, batch_size=16)
        trainer = Trainer(settings, data.load("digits"), torch.device("cuda"), "bf16", Path())
        recordings = trainer.cuda_graph.recordings
        if not recorded:
            trainer.cuda_graph = None
        for _ in range(3):
            trainer.train_epoch()
            trainer.epoch, trainer.step = trainer.epoch + 1, 0
        assert {size for size in recordings if recordings[size]} == (
            {15, 16} if recorded else set()
        )
        states.append(trainer.network.state_dict() | {"sum": trainer.sums["loss"]})
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_images_that_do_not_fit_the_gpu_train_as_those_that_do(job, tmp_path, monkeypatch):
    settings, runs = job("resnet8", "best", limit=300, input_size=32, epochs=2), []
    # In memory; on disk, but they fit; they do not fit
    for large, free in ((2**28, 2**40), (0, 2**40), (0, 0)):
        monkeypatch.setattr(images, "LARGE", large)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_, free=free: (free, free))
        runs.append(fit(settings, tmp_path / str(len(runs)), **HOW))
    same(runs[0], runs[1])
    # its steps are not recorded
    assert runs[2].accuracy == pytest.approx(runs[0].accuracy, abs=0.03)


@pytest.mark.parametrize("name", models.names())
def test_every_network_is_deterministic_and_computes_what_a_processor_does(name, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(0)
    network, images = models.create(name), torch.randn(4, 3, 64, 64)
    expected = network.eval()(images)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    network.to("cuda", memory_format=torch.channels_last)
    torch.testing.assert_close(network(images.to("cuda")).cpu(), expected, rtol=1e-3, atol=1e-4)
    torch.use_deterministic_algorithms(True)
    try:
        sum(
            weight * logits.square().sum()
            for weight, logits in network.train().weighted_logits(images.to("cuda"))
        ).backward()
    finally:
        torch.use_deterministic_algorithms(False)
