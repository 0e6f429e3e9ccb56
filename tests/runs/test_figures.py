"""What the figures draw, read back from matplotlib's own objects."""

import gc
import runpy

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.text import Text

from aqa.reporting import charts
from aqa.runs import figures
from aqa.runs.drawing import DPI, save

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


def test_srcc_by_pattern_has_a_bar_a_defined_pattern_its_n_and_its_ceiling(tmp_path, kept):
    figures.srcc_by_pattern(METRICS, tmp_path / "figure.png")
    axes = kept[0].axes[0]
    assert [bar.get_height() for bar in axes.patches] == [0.5, 0.65]
    assert [t.get_text() for t in axes.texts] == ["undefined"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["VAF\nn=30", "VA\nn=30", "F\nn=30"]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["best possible"]
    assert "selected on valid" in axes.get_title()


def test_srcc_by_fold_has_a_point_a_defined_fold_its_mean_and_all_pooled(tmp_path, kept):
    patterns = {"VA": {"srcc": 0.5, "srcc_folds": 0.6}, "V": {"srcc": 0.3, "srcc_folds": None}}
    each = [{"srcc": {"VA": 0.4, "V": 0.2}}, {"srcc": {"VA": 0.7, "V": None}}]
    folds = {"description": "2 folds by patient", "each": each}
    figures.srcc_by_fold({**METRICS, "patterns": patterns, "folds": folds}, tmp_path / "figure.png")
    (axes,) = kept[0].axes
    drawn = [each for each in axes.collections if isinstance(each, PathCollection)]
    points = [each.get_offsets()[:, 1].tolist() for each in drawn]
    assert points == [[0.4, 0.7], [0.2]]
    assert [bar.get_height() for bar in axes.patches] == [0.6]
    assert sorted(t.get_text() for t in axes.get_legend().get_texts()) == [
        "all folds pooled",
        "in a fold",
        "mean of folds",
    ]
    assert axes.get_title() == "mcmoe, TES; 2 folds by patient"


def test_predicted_against_true_leaves_out_nothing_it_can_show(tmp_path, kept):
    truth = np.arange(5.0)
    predictions = {"VAF": truth + 1, "VA": np.full(5, np.nan), "F": -truth}
    figures.predicted_against_true(METRICS, predictions, truth, tmp_path / "figure.png")
    shown = [axes for axes in kept[0].axes if axes.axison]
    assert [axes.get_title() for axes in shown] == ["VAF: SRCC 0.500", "VA: SRCC undefined", "F: SRCC 0.650"]
    np.testing.assert_array_equal(shown[2].collections[0].get_offsets(), np.stack([truth, -truth], axis=1))


def test_training_curves_show_loss_parts_and_the_kept_epoch(tmp_path, kept):
    history = [{"epoch": e, "loss": 1 / e, "loss_mse": 0.5 / e, "valid_srcc": 0.1 * e} for e in (1, 2, 3)]
    figures.training_curves(history, METRICS["selection"], tmp_path / "figure.png")
    left, right = kept[0].axes
    assert [line.get_label() for line in left.lines] == ["loss", "mse"]
    np.testing.assert_allclose(right.lines[0].get_ydata(), [0.1, 0.2, 0.3])
    assert right.lines[1].get_xdata() == [2, 2]
    assert right.get_ylabel() == "SRCC on valid (complete)"


def test_training_curves_show_what_only_a_later_stage_has(tmp_path, kept):
    history = [{"epoch": 1, "loss": 1.0, "loss_own": 1.0, "valid_srcc": 0.1}]
    history.append({"epoch": 2, "loss": 0.5, "loss_joint": 0.5, "valid_srcc": 0.2})
    figures.training_curves(history, METRICS["selection"], tmp_path / "figure.png")
    drawn = {line.get_label(): line.get_ydata() for line in kept[0].axes[0].lines}
    np.testing.assert_array_equal(drawn["own"], [1.0, np.nan])
    np.testing.assert_array_equal(drawn["joint"], [np.nan, 0.5])


def test_router_weights_are_written_in_their_cells(tmp_path, kept):
    weights = {"VAF": np.array([[0.75, 0.25], [0.5, 0.5]]), "V": np.eye(2)}
    figures.router_weights(weights, ["visual", "audio"], tmp_path / "figure.png")
    axes = kept[0].axes[0]
    found = {tuple(t.get_position()): t.get_text() for t in axes.texts}
    assert {at: text for at, text in found.items() if at[1] >= 0} == {
        **{(0, 0): "0.75", (1, 0): "0.25", (0, 1): "0.50", (1, 1): "0.50"},
        **{(3, 0): "1.00", (4, 0): "0.00", (3, 1): "0.00", (4, 1): "1.00"},
    }
    assert [text for at, text in found.items() if at[1] < 0] == ["VAF", "V"]
    assert axes.get_xticks().tolist() == [0, 1, 3, 4]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["visual", "audio"] * 2
    assert [t.get_text() for t in axes.get_yticklabels()] == ["visual", "audio"]
    drawn = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(drawn, [[0.75, 0.25, np.nan, 1, 0], [0.5, 0.5, np.nan, 0, 1]])


def words(figure):
    """Every text that a figure shows."""
    FigureCanvasAgg(figure).draw()
    return [t.get_text() for t in figure.findobj(Text) if t.get_text() and t.get_visible()]


@pytest.mark.parametrize("epochs", [1, 2, 5, 7, 60, 500])
@pytest.mark.parametrize("decades", [0, 1, 6])
def test_training_curves_have_whole_epochs_and_plain_numbers(tmp_path, kept, epochs, decades):
    losses = np.geomspace(1, 10.0**-decades, epochs)
    history = [{"epoch": e, "loss": loss, "valid_srcc": 0.1} for e, loss in enumerate(losses, start=1)]
    figures.training_curves(history, METRICS["selection"], tmp_path / "figure.png")
    FigureCanvasAgg(kept[0]).draw()
    for axes in kept[0].axes:
        shown = [t.get_text() for t in axes.get_xticklabels() if t.get_text()]
        assert shown
        assert all(label.lstrip("\N{MINUS SIGN}").isdigit() for label in shown)
        assert axes.get_xlabel() == "epoch"
    numbers = [t.get_text() for t in kept[0].axes[0].get_yticklabels()]
    assert len(numbers) >= 2
    assert all(np.isfinite(float(n.replace("\N{MINUS SIGN}", "-"))) for n in numbers)


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
        shown = words(figure)
        assert not [text for text in shown if "mathdefault" in text or "\\" in text]
        assert not [text for text in shown if "{" in text.replace("$x^2$ {seed}", "")]
    assert kept[0].axes[0].get_ylabel().startswith("SRCC")
    assert {"true $x^2$ {seed}", "predicted"} <= set(words(kept[1]))
    assert {"epoch", "training loss", "SRCC on test (complete)"} <= set(words(kept[2]))
    assert {"stream", "expert", "router weight of the expert"} <= set(words(kept[3]))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e7])
@pytest.mark.parametrize("patterns", [["VAF"], ["VAF", "VA", "F"], [f"snippet-masked-{i} 80 %" for i in range(9)]])
def test_no_label_is_cut_off_or_runs_into_another_panel(tmp_path, kept, scale, patterns):
    metrics = {**METRICS, "patterns": dict.fromkeys(patterns, SCORES)}
    folds = {"description": "2 folds", "each": [{"srcc": dict.fromkeys(patterns, 0.4)}] * 2}
    by_fold = {**metrics, "patterns": {name: {"srcc": 0.5, "srcc_folds": 0.6} for name in patterns}, "folds": folds}
    truth = np.linspace(-1.237, 3.6, 30) * scale
    history = [{"epoch": e, "loss": scale / e, "valid_srcc": 0.001 * e} for e in range(1, 40)]
    path = tmp_path / "figure.png"
    figures.srcc_by_pattern(metrics, path)
    figures.srcc_by_fold(by_fold, path)
    figures.predicted_against_true(metrics, dict.fromkeys(patterns, -truth), truth, path)
    figures.training_curves(history, METRICS["selection"], path)
    figures.router_weights(dict.fromkeys(patterns, np.eye(3)), ["visual", "body_pose_3d", "flow"], path)
    for figure in kept:
        renderer = figure.canvas.get_renderer()
        panels = [axes for axes in figure.axes if axes.axison]
        boxes = [panel.get_tightbbox(renderer) for panel in panels]
        for i, box in enumerate(boxes):
            assert box.x0 >= 0, panels[i].get_title()
            assert box.y0 >= 0, panels[i].get_title()
            assert box.y1 <= figure.bbox.height + 1, panels[i].get_title()
            assert not [other for other in boxes[i + 1 :] if box.overlaps(other.padded(-1))], panels[i].get_title()
        labels = [figure._supxlabel, figure._supylabel]
        assert not [box for box in boxes for t in labels if t and box.overlaps(t.get_window_extent(renderer))]


def test_a_file_has_the_pixels_of_the_figure(tmp_path, kept):
    figures.srcc_by_pattern(METRICS, tmp_path / "ours.png")
    kept[0].savefig(tmp_path / "plain.png", dpi=DPI)
    np.testing.assert_array_equal(plt.imread(tmp_path / "ours.png"), plt.imread(tmp_path / "plain.png"))


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
