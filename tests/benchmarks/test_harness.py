import json
import sys
import time

import pytest
import torch

from aqa.errors import AqaError
from benchmarks import harness
from benchmarks.harness import Memory, Report, Work, by_turns, options, parsed, ratios, spread

CPU = torch.device("cpu")


def arguments(monkeypatch, *given):
    monkeypatch.setattr(sys, "argv", ["bench.py", *given])
    return parsed(options("About."))


def test_a_spread_is_the_median_with_its_ends_and_the_number_of_samples():
    assert spread([3.0, 1.0, 2.0, 10.0]) == (2.5, 1.0, 10.0, 4)
    assert str(spread([3.0, 1.0, 2.0])).split() == ["2.00", "(1.00", "to", "3.00,", "n=3)"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.00123, "0.00123"), (1.2345, "1.23"), (12.345, "12.3"), (1234.5, "1234"), (1.5e9, "1.5e+09")],
)
def test_numbers_are_printed_with_three_digits_that_count(value, text):
    assert harness.short(value) == text


def test_ratios_are_of_the_same_turn():
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


def test_rates_are_the_amount_by_the_seconds():
    assert harness.rates(Work(print, 6.0), [2.0, 3.0]) == [3.0, 2.0]


def test_works_take_turns_and_the_first_turn_is_not_counted():
    calls = []
    works = {
        "a": Work(lambda: calls.append("a")),
        "b": Work(lambda: calls.append("b"), before=lambda: calls.append("before b")),
    }
    samples = by_turns(works, 7, CPU)
    assert calls == ["a", "before b", "b"] * 8
    assert [len(samples[name]) for name in ("a", "b")] == [7, 7]


def test_what_comes_before_is_not_timed():
    clock = iter(range(1000))
    work = Work(lambda: None, before=lambda: [next(clock) for _ in range(5)])
    assert by_turns({"work": work}, 7, CPU, lambda: float(next(clock))) == {"work": [1.0] * 7}


def test_too_few_repeats_are_refused(monkeypatch):
    with pytest.raises(AqaError, match="7 or more"):
        by_turns({}, 6, CPU)
    with pytest.raises(SystemExit, match=r"^bench: --repeats 3: a median needs 7 or more$"):
        arguments(monkeypatch, "--repeats", "3")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line(monkeypatch):
    with pytest.raises(SystemExit, match=r"^bench: device cuda: torch sees no GPU here; use cpu or auto$"):
        arguments(monkeypatch, "--device", "cuda")


def test_the_limits_say_what_one_run_does(tmp_path):
    assert harness.matrix_product(CPU).amount == 2 * 2048**3
    assert harness.memory_copy(CPU, 1000).amount == 2000
    path = tmp_path / "file"
    path.write_bytes(b"x" * 12345)
    for cold in (False, True):
        work = harness.file_read(path, cold)
        assert work.amount == 12345
        assert (work.before is not None) == cold
        by_turns({"read": work}, 7, CPU)


def test_operations_count_fused_attention_as_they_do_plain_products():
    rows, heads, steps, width = 2, 3, 5, 4
    q = torch.randn(rows, heads, steps, width, requires_grad=True)
    one_product = 2 * rows * heads * steps * steps * width
    forward = harness.operations(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert forward == 2 * one_product
    plain = harness.operations(lambda: (q @ q.transpose(-1, -2)).softmax(-1) @ q)
    assert plain == forward
    both = harness.operations(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q).sum().backward())
    assert both == 7 * one_product  # the backward pass computes the weights again: five products


def hold(size):
    return lambda: torch.ones(size, dtype=torch.uint8)


def test_peak_memory_is_of_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(harness, "PRELOADED", ["torch"])  # all that `hold` needs
    before = torch.ones(2**28, dtype=torch.uint8)  # what this process holds does not count
    memory = harness.peak_memory(hold, 2**26, device=CPU)
    assert len(before) == 2**28
    assert 2**26 <= memory.added < 3 * 2**26  # the heap grows by more than it is asked for
    assert Memory(peak=7, start=3).added == 4


def test_a_report_keeps_every_sample(monkeypatch, tmp_path, capsys):
    given, device = arguments(monkeypatch, "--out", str(tmp_path / "folder" / "record.json"))
    report = Report("name", given, device)
    report.section("what was measured")
    assert report.add("step", [0.5, 0.25, 1.0], "s").median == 0.5
    report.value("operations", 272.05, "GFLOP")
    report.value("exponent", float("nan"))
    report.write()
    record = json.loads((tmp_path / "folder" / "record.json").read_text())
    assert record["benchmark"] == "name"
    assert record["device"] == "cpu"
    assert record["threads"] == torch.get_num_threads()
    assert record["settings"] == {"threads": None, "repeats": 7}
    assert record["versions"]["torch"] == torch.__version__
    assert record["machine"]["cores"] >= 1
    assert record["figures"] == [
        {"section": "what was measured"},
        {"name": "step", "unit": "s", "median": 0.5, "low": 0.25, "high": 1.0, "n": 3, "samples": [0.5, 0.25, 1.0]},
        {"name": "operations", "unit": "GFLOP", "value": 272.05},
        {"name": "exponent", "unit": "", "value": None},
    ]
    printed = capsys.readouterr().out
    assert "what was measured" in printed
    assert "0.500  (0.250 to 1.00, n=3) s" in printed
    assert "272  GFLOP" in printed


def test_processor_time_is_that_of_one_thread_of_a_cpu(monkeypatch):
    parser = harness.options("about")
    harness.add_processor_time(parser)
    assert harness.clock_of(parser.parse_args([])) is time.perf_counter
    assert harness.clock_of(parser.parse_args(["--processor-time", "--threads", "1"])) is time.process_time
    with pytest.raises(SystemExit, match=r"--processor-time adds up over threads: use --device cpu --threads 1$"):
        harness.clock_of(parser.parse_args(["--processor-time"]))
