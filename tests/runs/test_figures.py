"""What the figures draw, read back from matplotlib's own objects."""

import gc
import itertools
import runpy

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch

from aqa.drawing.frames import MINUS
from aqa.drawing.pixels import DPI, save
from aqa.drawing.places import SLANT
from aqa.drawing.words import Words
from aqa.reporting import charts
from aqa.runs import figures

SCORES = {"srcc": 0.5, "srcc_low": 0.4, "srcc_high": 0.6, "n": 30}
METRICS = {
    "model": "mcmoe",
    "target": "TES",
    "selection": {"split": "valid", "metric": "srcc", "pattern": "complete", "epoch": 2, "epochs": 3},
    "patterns": {
        "VAF": {**SCORES, "ceiling": 0.9},
        "VA": {**SCORES, "srcc": None, "srcc_low": None, "srcc_high": None},
        "F": {**SCORES, "srcc": 0.65},  # a percentile interval need not hold the estimate
    },
}


@pytest.fixture
def kept(monkeypatch):
    """The figures drawn, kept for the test to look at."""
    drawn = []

    def keep(figure, path):
        save(figure, path)
        drawn.append(figure)

    monkeypatch.setattr(figures, "save", keep)
    return drawn


def words(figure):
    """Every text that a figure shows, with its place in inches."""
    return [word for each in figure.findobj(Words) for word in each.shown]


def texts(figure):
    return [text for *_, text in words(figure)]


def bars(figure):
    """Bars of one colour each."""
    return [patch for patch in figure.findobj(PathPatch) if patch.get_clip_box()]


def middles_and_tops(drawn):
    corners = drawn.get_path().vertices.reshape(-1, 5, 2)[:, :4]  # without what closes each
    assert (corners[..., 1].min(axis=1) == 0).all()
    return [(corner[:, 0].mean(), corner[:, 1].max()) for corner in corners]


def lines(figure, **style):
    """Lines that are drawn like this, in numbers of their axes, in the order in which they were drawn."""
    found = [line for line in figure.artists + figure.lines if isinstance(line, Line2D) and line.get_clip_box()]
    return [line for line in found if all(getattr(line, f"get_{key}")() == value for key, value in style.items())]


def test_srcc_by_pattern_has_a_bar_a_defined_pattern_its_n_and_its_ceiling(tmp_path, kept):
    figures.srcc_by_pattern(METRICS, tmp_path / "figure.png")
    complete, incomplete = bars(kept[0])
    assert np.allclose([middles_and_tops(complete), middles_and_tops(incomplete)], [[(0, 0.5)], [(2, 0.65)]])
    assert complete.get_facecolor() == to_rgba(figures.COMPLETE)
    shown = texts(kept[0])
    named = ["VAF", "n=30", "VA", "n=30", "F", "n=30"]
    assert [text for text in shown if text in named] == named
    assert shown.count("undefined") == 1
    assert shown.count("best possible") == 1
    (level,) = lines(kept[0], color=figures.CEILING)
    assert level.get_xydata()[:2].tolist() == [[-0.42, 0.9], [0.42, 0.9]]
    assert "mcmoe, TES; selected on valid: epoch 2 of 3, best SRCC (complete)" in shown


def test_whiskers_reach_from_one_end_of_an_interval_to_the_other(tmp_path, kept):
    figures.srcc_by_pattern(METRICS, tmp_path / "figure.png")
    (drawn,) = lines(kept[0], linewidth=1)
    upright = drawn.get_xydata().reshape(-1, 3, 2)[::3, :2]  # then a cap at each end
    assert upright.tolist() == [[[0, 0.4], [0, 0.6]], [[2, 0.4], [2, 0.65]]]


def test_srcc_by_fold_has_a_point_a_defined_fold_its_mean_and_all_pooled(tmp_path, kept):
    patterns = {"VA": {"srcc": 0.5, "srcc_folds": 0.6}, "V": {"srcc": 0.3, "srcc_folds": None}}
    each = [{"srcc": {"VA": 0.4, "V": 0.2}}, {"srcc": {"VA": 0.7, "V": None}}]
    folds = {"description": "2 folds by patient", "each": each}
    figures.srcc_by_fold({**METRICS, "patterns": patterns, "folds": folds}, tmp_path / "figure.png")
    (points,) = lines(kept[0], marker="o")
    assert points.get_xydata().tolist() == [[-0.25, 0.4], [0.25, 0.7], [1, 0.2]]
    (mean,) = bars(kept[0])
    assert np.allclose(middles_and_tops(mean), [(0, 0.6)])
    (pooled,) = lines(kept[0], color=figures.CEILING)
    assert pooled.get_ydata()[::3].tolist() == [0.5, 0.3]
    assert {"all folds pooled", "in a fold", "mean of folds", "mcmoe, TES; 2 folds by patient"} <= set(texts(kept[0]))


def test_predicted_against_true_leaves_out_nothing_it_can_show(tmp_path, kept):
    truth = np.arange(5.0)
    predictions = {"VAF": truth + 1, "VA": np.full(5, np.nan), "F": -truth}
    figures.predicted_against_true(METRICS, predictions, truth, tmp_path / "figure.png")
    titles = [text for text in texts(kept[0]) if ": SRCC" in text]
    assert titles == ["VAF: SRCC 0.500", "VA: SRCC undefined", "F: SRCC 0.650"]
    dots = lines(kept[0], marker="o")
    for drawn, scores in zip(dots, predictions.values(), strict=True):
        np.testing.assert_array_equal(drawn.get_xydata(), np.stack([truth, scores], axis=1))
    left, right = (dots[place].get_clip_box().extents for place in (0, 2))
    for drawn, (x0, y0, x1, y1) in ((dots[0], left), (dots[2], right)):
        places = drawn.get_transform().transform(drawn.get_xydata())
        assert (places > (x0, y0)).all()
        assert (places < (x1, y1)).all()


def test_training_curves_show_loss_parts_and_the_kept_epoch(tmp_path, kept):
    history = [{"epoch": e, "loss": 1 / e, "loss_mse": 0.5 / e, "valid_srcc": 0.1 * e} for e in (1, 2, 3)]
    figures.training_curves(history, METRICS["selection"], tmp_path / "figure.png")
    whole, mse, measured, upright = lines(kept[0])
    np.testing.assert_array_equal(whole.get_xydata(), [(1, 1), (2, 1 / 2), (3, 1 / 3)])
    np.testing.assert_array_equal(mse.get_ydata(), [0.5, 0.25, 0.5 / 3])
    np.testing.assert_allclose(measured.get_ydata(), [0.1, 0.2, 0.3])
    assert upright.get_xdata().tolist() == [2, 2]
    assert {"loss", "mse", "kept: epoch 2", "SRCC on valid (complete)"} <= set(texts(kept[0]))


def test_training_curves_show_what_only_a_later_stage_has(tmp_path, kept):
    history = [{"epoch": 1, "loss": 1.0, "loss_own": 1.0, "valid_srcc": 0.1}]
    history.append({"epoch": 2, "loss": 0.5, "loss_joint": 0.5, "valid_srcc": 0.2})
    figures.training_curves(history, METRICS["selection"], tmp_path / "figure.png")
    _, own, joint, *_ = lines(kept[0])
    np.testing.assert_array_equal(own.get_ydata(), [1.0, np.nan])
    np.testing.assert_array_equal(joint.get_ydata(), [np.nan, 0.5])


def test_a_loss_over_decades_is_drawn_on_a_logarithmic_scale(tmp_path, kept):
    history = [{"epoch": e, "loss": 10.0**-e, "valid_srcc": np.nan} for e in (1, 2, 3)]
    figures.training_curves(history, METRICS["selection"], tmp_path / "figure.png")
    np.testing.assert_allclose(lines(kept[0])[0].get_ydata(), [-1, -2, -3])
    place = {text: y for _, y, text in words(kept[0])}
    np.testing.assert_allclose(place["0.1"] - place["0.01"], place["0.01"] - place["0.001"])


def test_router_weights_are_written_in_their_cells(tmp_path, kept):
    weights = {"VAF": np.array([[0.75, 0.25], [0.5, 0.5]]), "V": np.eye(2)}
    figures.router_weights(weights, ["visual", "audio"], tmp_path / "figure.png")
    (drawn,) = kept[0].findobj(PolyCollection)
    cells = [path.vertices[:4].mean(axis=0) for path in drawn.get_paths()[:8]]
    flat = np.concatenate([each.ravel() for each in weights.values()])
    np.testing.assert_array_equal(drawn.get_facecolor()[:8], matplotlib.colormaps["Blues"](flat))
    written = {(round(x, 6), round(y, 6)): text for x, y, text in words(kept[0])}
    assert [written[tuple(cell.round(6))] for cell in cells] == [f"{weight:.2f}" for weight in flat]
    shown = words(kept[0])
    across = {text: [x for x, _, other in shown if other == text] for text in ("visual", "audio", "VAF", "V")}
    up = {text: [y for _, y, other in shown if other == text] for text in ("visual", "audio")}
    below, stream = sorted(up["visual"])[0], sorted(up["visual"])[-1]
    assert len(up["visual"]) == len(up["audio"]) == 3  # a row, and a column of each pattern
    assert stream == pytest.approx(cells[0][1])
    assert below < min(cell[1] for cell in cells)
    assert across["VAF"] == pytest.approx([(cells[0][0] + cells[1][0]) / 2])
    assert across["V"] == pytest.approx([(cells[4][0] + cells[5][0]) / 2])
    assert sorted(across["visual"])[1:] == pytest.approx([cells[0][0], cells[4][0]])


@pytest.mark.parametrize("epochs", [1, 2, 5, 7, 60, 500])
@pytest.mark.parametrize("decades", [0, 1, 6])
def test_training_curves_have_whole_epochs_and_plain_numbers(tmp_path, kept, epochs, decades):
    losses = np.geomspace(1, 10.0**-decades, epochs)
    history = [{"epoch": e, "loss": loss, "valid_srcc": 0.1} for e, loss in enumerate(losses, start=1)]
    figures.training_curves(history, METRICS["selection"], tmp_path / "figure.png")
    shown = words(kept[0])
    below = min(y for _, y, text in shown if text != "epoch")  # where the numbers of the epochs stand
    numbers = [text for _, y, text in shown if y == below and text != "epoch"]
    assert len(numbers) >= 2
    assert all(text.isdigit() for text in numbers)
    assert [text for _, _, text in shown].count("epoch") == 2
    left = min(x for x, y, text in shown if y > below and is_number(text))
    beside = [text for x, y, text in shown if x == left and y > below]
    assert len(beside) >= 2
    assert all(np.isfinite(float(text.replace(MINUS, "-"))) for text in beside)


def is_number(text):
    try:
        return bool(np.isfinite(float(text.replace(MINUS, "-"))))
    except ValueError:
        return False


def test_no_figure_shows_markup_or_lacks_a_label(tmp_path, kept):
    selection = {**METRICS["selection"], "split": "test"}
    metrics = {**METRICS, "target": "$x^2$ {seed}", "selection": selection}
    truth = np.arange(5.0)
    history = [{"epoch": e, "loss": 10.0**-e, "loss_mse": 10.0**-e, "test_srcc": 0.1 * e} for e in (1, 2, 3)]
    path = tmp_path / "figure.png"
    figures.srcc_by_pattern(metrics, path)
    figures.predicted_against_true(metrics, {"VAF": truth, "VA": truth, "F": truth}, truth, path)
    figures.training_curves(history, selection, path)
    figures.router_weights({"VAF": np.full((2, 2), 0.5)}, ["visual", "audio"], path)
    for figure in kept:
        shown = texts(figure)
        assert not [text for text in shown if "mathdefault" in text or "\\" in text]
        assert not [text for text in shown if "{" in text.replace("$x^2$ {seed}", "")]
    assert "SRCC (95 % bootstrap interval)" in texts(kept[0])
    assert {"true $x^2$ {seed}", "predicted"} <= set(texts(kept[1]))
    assert {"epoch", "training loss", "SRCC on test (complete)"} <= set(texts(kept[2]))
    assert {"stream", "expert", "router weight of the expert"} <= set(texts(kept[3]))
    for figure in kept[:3]:
        assert [text for text in texts(figure) if text.endswith("SELECTED ON TEST: epoch 2 of 3, best SRCC (complete)")]


LONG = "snippet-masked-{} 80 % of all that there is to be seen"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e7])
@pytest.mark.parametrize("patterns", [["VAF"], ["VAF", "VA", "F"], [LONG.format(i) for i in range(9)]])
def test_no_label_is_cut_off_or_runs_into_another_or_into_a_panel(tmp_path, kept, scale, patterns):
    selection = {**METRICS["selection"], "split": "test"}
    about = {"selection": selection, "model": "a_model_with_a_long_name" * 4, "target": "a target of great length" * 9}
    metrics = {**METRICS, **about, "patterns": dict.fromkeys(patterns, SCORES)}
    folds = {"description": "2 folds", "each": [{"srcc": dict.fromkeys(patterns, 0.4)}] * 2}
    by_fold = {**metrics, "patterns": {name: {"srcc": 0.5, "srcc_folds": 0.6} for name in patterns}, "folds": folds}
    truth = np.linspace(-1.237, 3.6, 30) * scale
    history = [{"epoch": e, "loss": scale / e, "test_srcc": 0.001 * e} for e in range(1, 1001, 3)]
    figures.srcc_by_pattern(metrics, tmp_path / "0.png")
    figures.srcc_by_fold(by_fold, tmp_path / "1.png")
    figures.predicted_against_true(metrics, dict.fromkeys(patterns, -truth), truth, tmp_path / "2.png")
    figures.training_curves(history, selection, tmp_path / "3.png")
    figures.router_weights(dict.fromkeys(patterns, np.eye(3)), ["visual", "body_pose_3d", "flow"], tmp_path / "4.png")
    for i, figure in enumerate(kept):
        pixels = plt.imread(tmp_path / f"{i}.png")
        assert [edge.min() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])] == [1.0] * 4, i  # white
        slanted = {SLANT, figures.EXPERT_SLANT}
        level = [each for each in figure.findobj(Words) if round(each.get_rotation()) not in slanted]
        boxes = [(text, box) for each in level for (*_, text), box in zip(each.shown, each.boxes(), strict=True)]
        assert not [
            (a, b) for (a, one), (b, other) in itertools.combinations(boxes, 2) if one.overlaps(other.padded(-1))
        ]
        panels = {tuple(line.get_clip_box().extents.round()): line.get_clip_box() for line in lines(figure)}
        outside = [each for each in figure.findobj(Words) if each.get_ha() != "left"]  # without what a key says
        assert not [
            (text, box)
            for each in outside
            for (*_, text), box in zip(each.shown, each.boxes(), strict=True)
            if any(box.overlaps(panel.padded(-1)) for panel in panels.values())
        ]


def test_the_key_of_curves_hides_none_where_there_is_room(tmp_path, kept):
    history = [{"epoch": e, "loss": 1 - e / 50, "valid_srcc": e / 50} for e in range(1, 41)]
    figures.training_curves(history, METRICS["selection"], tmp_path / "figure.png")
    keys = [box for each in kept[0].findobj(Words) if each.get_ha() == "left" for box in each.boxes()]
    places = np.concatenate([line.get_transform().transform(line.get_xydata()) for line in lines(kept[0])])
    assert len(keys) == 2
    assert not [place for place in places for box in keys if box.contains(*place)]


def test_a_file_has_the_pixels_of_the_figure(tmp_path, kept):
    figures.srcc_by_pattern(METRICS, tmp_path / "ours.png")
    kept[0].savefig(tmp_path / "plain.png", dpi=DPI)
    ours, plain = (plt.imread(tmp_path / f"{name}.png") for name in ("ours", "plain"))
    assert (plain[..., 3] == 1).all()  # nothing shines through
    np.testing.assert_array_equal(ours, plain[..., :3])


@pytest.mark.parametrize("collects", [True, False])
def test_a_figure_leaves_the_garbage_collector_as_it_was(tmp_path, collects):
    before = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        figures.router_weights({"V": np.eye(2)}, ["visual", "audio"], tmp_path / "figure.png")
        with pytest.raises(KeyError):
            figures.srcc_by_pattern({}, tmp_path / "figure.png")
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()


def test_figures_are_not_among_those_of_the_program_that_calls(tmp_path):
    before = plt.get_fignums()
    figures.router_weights({"V": np.eye(2)}, ["visual", "audio"], tmp_path / "figure.png")
    assert plt.get_fignums() == before
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("module", [figures, charts], ids=["figures", "charts"])
def test_the_backend_of_the_program_that_calls_stays(module):
    """A notebook would no longer show its own plots after `aqa.run`."""
    before = plt.get_backend()
    plt.switch_backend("svg")
    try:
        runpy.run_path(module.__file__)  # as it is imported for the first time
        assert plt.get_backend() == "svg"
    finally:
        plt.switch_backend(before)
