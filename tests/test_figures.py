"""Pictures show the run's own numbers, and the same bytes each time."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from layout import check
from matplotlib.colors import to_rgb
from PIL import Image

from deepnets import data, metrics, runs
from deepnets.compare import figures, style
from deepnets.models import ORIGINALS
from deepnets.training import fit


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A network and its better-trained sibling."""
    from deepnets import recipes
    from deepnets.training import Job

    root = tmp_path_factory.mktemp("figures")
    for name in ("resnet8", "resnet14"):
        fit(
            Job(
                name, "digits", recipes.get("tuned", name, epochs=3, batch_size=16), 0, {}, 300, 16
            ),
            root,
            verbose=False,
        )
    return runs.find(root)


@pytest.fixture(scope="module")
def images():
    return data.load("digits").test.images.numpy()


def drawn(pair, images):
    """Every picture, by name."""
    return {
        "together": figures.together(pair),
        "confusion": figures.confusion(pair[0]),
        "per_class": figures.per_class(pair),
        "losses": figures.losses(pair),
        "gallery": figures.gallery(pair[0], images, range(12)),
        "representation": figures.representation(pair[0]),
        "filters": figures.filters(pair[0]),
        "attention": figures.attention(pair[0], images),
        "pictures": figures.pictures(
            [images[:3], images[3:6]], ["a", "b", "c"], ["x", "y"], "title"
        ),
    }


def test_letters_of_the_pictures_can_be_read(pair, images):
    """Those of the earlier study's and of classes in the middle of their points aside."""
    names = [
        "together",
        "confusion",
        "per_class",
        "losses",
        "gallery",
        "filters",
        "attention",
        "pictures",
    ]
    found = drawn(pair, images)
    for figure in (
        *(found[name] for name in names),
        figures.curves(pair),
        figures.confusions(pair),
    ):
        check(figure)


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_the_same_data_gives_the_same_bytes(pair, images, tmp_path, suffix):
    written = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name, figure in drawn(pair, images).items():
            style.save(figure, tmp_path / folder / f"{name}.{suffix}")
        written.append(
            {path.name: path.read_bytes() for path in sorted((tmp_path / folder).iterdir())}
        )
    assert written[0] == written[1]
    assert len(written[0]) == 9
    if suffix == "pdf":
        assert not [name for name, content in written[0].items() if b"/Type3" in content]


def test_a_network_has_one_colour_in_every_picture():
    networks = list(style.COLOURS)
    assert {*ORIGINALS, *ORIGINALS.values()} < set(networks)
    assert len(networks) == 9
    assert style.colours(networks[::-1]) == style.colours(networks)[::-1]
    others = style.colours(["a", "b", "a"])
    assert others[0] == others[2] != others[1]


def test_a_recipe_has_one_line_style_in_every_picture():
    named = ["tuned", "classic", "vanilla", "altered", "best"]
    assert len(set(style.lines(named))) == 5
    assert style.lines(["other", *named[::-1]])[1:] == style.lines(named)[::-1]
    assert len(set(style.lines(["a", "b", *named]))) == 7


# What people without one kind of cones see, in linear RGB (Machado et al. 2009, table 1)
BLIND = {
    "nobody": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def lab(rgb):
    """A linear RGB colour in CIE Lab."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", BLIND)
def test_colours_differ_for_the_colour_blind(kind):
    """Ten units of Lab apart are colours that one tells apart at a glance."""
    rgb = {name: np.array(to_rgb(colour)) for name, colour in style.COLOURS.items()}
    seen = {
        name: lab(
            np.array(BLIND[kind]) @ np.where(c < 0.04, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        )
        for name, c in rgb.items()
    }
    for first, second in combinations(seen, 2):
        assert np.linalg.norm(seen[first] - seen[second]) > 10, (first, second)


def test_curves_and_matrices_are_the_runs(pair):
    loss, accuracy = figures.together(pair).axes
    assert [line.get_ydata().tolist() for line in loss.lines[::2]] == [
        run.history["val_loss"].tolist() for run in pair
    ]
    trained = [line.get_ydata().tolist() for line in accuracy.lines[1:4:2]]
    assert trained == [run.history["train_accuracy"].tolist() for run in pair]
    thin, thick = (loss.lines[k].get_linewidth() for k in (1, 0))
    assert thin < thick, "training images"
    counts = metrics.confusion(pair[0].test["labels"], pair[0].test["predicted"], 10)
    texts = [text.get_text() for text in figures.confusion(pair[0]).axes[0].texts]
    assert sum(int(text) for text in texts if text) == counts.sum() == 360
    shares = counts / counts.sum(1, keepdims=True)  # of the true class, a row
    for ax in (*figures.confusion(pair[0]).axes, *figures.confusions(pair[:1]).axes):
        assert np.asarray(ax.collections[0].get_array()).reshape(10, 10) == pytest.approx(shares)


def test_losses_have_a_line_a_run_and_a_colour_a_network(pair):
    twice = runs.Run(pair[0].path, replace(pair[0].info, seed=1))
    figure = figures.losses([*pair, twice])
    (ax,) = figure.axes
    assert [line.get_ydata().tolist() for line in ax.lines[:2]] == [
        run.history["train_loss"].tolist() for run in pair
    ]
    assert ax.lines[0].get_color() == ax.lines[2].get_color() != ax.lines[1].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["resnet14", "resnet8"]


def test_a_drawing_is_stored_with_few_colours_and_a_photograph_with_its_own(pair, tmp_path):
    random = np.random.default_rng(0).integers(0, 256, (1, 3, 40, 40), np.uint8)
    for figure, mode in ((figures.together(pair), "P"), (figures.pictures([random]), "RGB")):
        style.save(figure, tmp_path / "picture.png")
        with Image.open(tmp_path / "picture.png") as stored:
            assert stored.mode == mode
            shown = np.asarray(stored).reshape(-1, 3 if mode == "RGB" else 1)
    assert {*map(tuple, random[0].reshape(3, -1).T)} <= {*map(tuple, shown)}


def test_several_trainings_of_a_network_are_named_apart(pair):
    twice = [pair[0], runs.Run(pair[0].path, replace(pair[0].info, seed=1))]
    for draw in (figures.curves, figures.confusions):
        titles = [ax.get_title() for ax in draw(twice).axes if ax.get_title()]
        assert titles[0].startswith("resnet14, tuned, 0")
        assert titles[1].startswith("resnet14, tuned, 1")
        assert [ax.get_title().split()[0] for ax in draw(pair).axes[:2]] == ["resnet14", "resnet8"]


def test_a_class_is_named_in_the_middle_of_its_images(pair):
    (ax,) = figures.representation(pair[0]).axes
    points, labels = pair[0].view("pca"), pair[0].test["labels"]
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert places == {
        str(k): pytest.approx(np.median(points[labels == k], axis=0)) for k in range(10)
    }


def test_classes_are_counted_apart(pair):
    container = figures.per_class(pair[:1]).axes[0].containers[0]
    matrix = metrics.confusion(pair[0].test["labels"], pair[0].test["predicted"], 10)
    assert container.lines[0].get_ydata() == pytest.approx(matrix.diagonal() / matrix.sum(1))


def test_a_gallery_names_mistakes(pair, images):
    wrong = np.flatnonzero(~pair[0].correct)[:3]
    right = np.flatnonzero(pair[0].correct)[:3]
    axes = [ax for ax in figures.gallery(pair[0], images, [*wrong, *right]).axes if ax.images]
    titles = [ax.get_title() for ax in axes]
    assert ["is" in title for title in titles] == [True] * len(wrong) + [False] * len(right)
    assert np.array_equal(axes[0].images[0].get_array(), images[wrong[0], 0])


def test_a_table_of_pictures_holds_them_in_order(images):
    axes = figures.pictures([images[:2], images[2:4]], ["a", "b"], ["x", "y"]).axes
    assert [np.asarray(ax.images[0].get_array()).tolist() for ax in axes] == [
        image[0].tolist() for image in images[:4]
    ]
    assert [ax.get_title() for ax in axes] == ["a", "b", "", ""]
    assert [ax.get_ylabel() for ax in axes] == ["x", "", "y", ""]
