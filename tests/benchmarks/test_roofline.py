"""The roofline of a step: what is recorded of operations, and what it sums up to."""

import torch

from benchmarks import roofline
from benchmarks.roofline import Layout, Recorder


def test_products_are_counted_by_what_they_are_given_and_others_by_their_bytes():
    x, w = torch.randn(6, 4), torch.randn(4, 4)
    row = torch.randn(4).expand(6, 4)
    with Recorder() as recorder:
        x @ w
        (x @ w).relu()
        x @ w.T
        x.view(4, 6).T[:2]
        x + row
        x.add_(1)
        torch.empty(5).normal_()
        torch.ge(x, 0.0, out=torch.empty_like(x))
    counts = {recorder.products[key].name: recorder.counts[key] for key in recorder.products}
    assert sorted(recorder.counts.values()) == [1, 2]
    assert set(counts) == {"mm(6x4, 4x4)"}
    number = 4  # bytes
    assert recorder.bytes["relu"] == 2 * 24 * number
    assert recorder.bytes["add"] == (24 + 4 + 24) * number
    assert recorder.bytes["add_"] == 2 * 24 * number
    assert recorder.bytes["normal_"] == 5 * number
    assert recorder.bytes["ge"] == 2 * 24 * number
    assert not {"view", "t", "transpose", "slice", "empty", "empty_like"} & set(recorder.bytes)


def test_a_product_is_run_again_on_numbers_of_the_same_layout():
    x, w = torch.randn(8, 6).T, torch.randn(5, 8)
    with Recorder() as recorder:
        torch.addmm(torch.zeros(5), x, w.T)
    (product,) = recorder.products.values()
    assert product.args[1] == Layout((6, 8), (1, 6), torch.float32)
    assert product.work()().shape == (6, 5)


def test_backward_passes_and_optimizers_are_recorded():
    layer, x = torch.nn.Linear(4, 3), torch.randn(7, 4)
    optimizer = torch.optim.Adam(layer.parameters(), fused=True)
    with Recorder() as recorder:
        layer(x).sum().backward()
        optimizer.step()
    assert {product.name for product in recorder.products.values()} == {"addmm(3, 7x4, 4x3)", "mm(3x7, 7x4)"}
    # Weights, gradients and two moments are read, all but gradients written; 15 numbers each, and two counts of steps.
    assert recorder.bytes["_fused_adam_"] >= 7 * 15 * 4


def test_a_step_stands_beside_the_sum_of_its_operations(monkeypatch, tmp_path, capsys):
    w = torch.randn(16, 16)
    monkeypatch.setattr(roofline, "full_size_step", lambda *_: lambda: (w @ w).relu())
    monkeypatch.setattr(roofline, "matrix_product", lambda device: roofline.Work(lambda: w @ w, 2.0 * 16**3))
    monkeypatch.setattr(roofline, "memory_copy", lambda device: roofline.Work(lambda: w.clone(), 2.0 * 1024))
    monkeypatch.setattr("sys.argv", ["roofline", "--out", str(tmp_path / "record.json")])
    roofline.main()
    said = capsys.readouterr().out
    assert "step / sum of its operations" in said
    assert "1 times mm(16x16, 16x16): share of the sum" in said
    assert "relu: share of the other bytes" in said
