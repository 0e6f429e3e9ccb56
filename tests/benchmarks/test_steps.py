import pytest
import torch

from benchmarks.steps import Shape, build_small, random_batch, scoring, shape_of, small_shape, training_step

CPU = torch.device("cpu")
SHAPE = small_shape(3, 6, 8, 4)


@pytest.mark.parametrize(
    ("data", "widths", "clips"),
    [("fisv", (1024, 768, 1024), 124), ("fs1000", (768, 768, 1024), 95), ("rg", (1024, 768, 1024), 68)],
)
def test_batches_have_the_shapes_of_the_data_sets(data, widths, clips):
    shape = shape_of(data)
    assert shape == Shape(dict(zip(("visual", "audio", "flow"), widths, strict=True)), clips, 32)


def test_every_row_lacks_one_modality_in_turn():
    batch = random_batch(SHAPE, CPU)
    assert batch.visible.tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 1, 1]]
    assert batch.available.all()
    assert batch.lengths is None
    assert {values.shape for values in batch.features.values()} == {(4, 8, 6)}
    assert random_batch(small_shape(1, 6, 8, 4), CPU).visible.all()


def test_padded_rows_keep_two_thirds_of_their_clips():
    lengths = random_batch(SHAPE, CPU, padded=True).lengths
    assert all(values.tolist() == [8, 7, 6, 8] for values in lengths.values())


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_a_step_changes_the_weights(precision):
    model = build_small("mcmoe", SHAPE.widths, hidden_dim=8, n_encoder=1, n_decoder=1)
    before = [parameter.clone() for parameter in model.parameters()]
    training_step(model, random_batch(SHAPE, CPU), precision)()
    assert not torch.backends.cuda.matmul.allow_tf32
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_scoring_changes_nothing():
    model = build_small("mcmoe", SHAPE.widths, hidden_dim=8, n_encoder=1, n_decoder=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scoring(model, random_batch(SHAPE, CPU))()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
