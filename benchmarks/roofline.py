"""What a training step of MCMoE would take if each of its operations, alone, set the pace; and what is lost between.

    python -m benchmarks.roofline                          Fis-V's shape, 32 videos of 124 clips
    python -m benchmarks.roofline --data fisv fs1000 rg    those of FS1000 and RG as well

Every operation that the step hands to torch is recorded, with the shapes and strides of what it is given. Two kinds:

- products of matrices and convolutions: each distinct one is run alone, on random numbers of the same shape, in turn
  with the step. Its time counts as often as the step takes it;
- all others (softmax, norms, activations, dropout, sums, copies, Adam): the bytes that it has to read and write, at the
  rate of a copy that no cache holds, measured in turn as well. Views cost nothing. What a cache holds may be faster.

step / sum of its operations: the aim is 1.15. The products that lose most time by not reaching the large product's rate
are listed, with the rate that they reach and their share of the sum: no order of operations makes these faster.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from benchmarks.harness import (
    FUSED_ATTENTION,
    Report,
    Work,
    add_processor_time,
    by_turns,
    clock_of,
    matrix_product,
    memory_copy,
    operations,
    options,
    parsed,
    rates,
    ratios,
    spread,
)
from benchmarks.steps import shape_of
from benchmarks.train_step import PUBLISHED_GFLOP, full_size_step

AIM = 1.15
LISTED = 12  # products that lose the most, and others that move the most bytes


class Layout(NamedTuple):
    """What a tensor is like, without its numbers."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, x: Tensor) -> Layout:
        return cls(tuple(x.shape), x.stride(), x.dtype)

    @property
    def bytes(self) -> int:
        """What it takes to read or write it: what is repeated by a stride of 0 is there once."""
        numbers = 1
        for size, step in zip(self.shape, self.stride, strict=True):
            numbers *= size if step or not size else 1
        return numbers * self.dtype.itemsize

    def made(self) -> Tensor:
        """A tensor of this layout, of random numbers where it takes any."""
        x = torch.empty_strided(self.shape, self.stride, dtype=self.dtype)
        return x.normal_() if self.dtype.is_floating_point else x.zero_()


class Product(NamedTuple):
    """A product of matrices as torch is asked for it: arguments with layouts in the place of tensors."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def work(self) -> Callable[[], object]:
        """The product alone, on random numbers."""
        args, kwargs = tree_map_only(Layout, Layout.made, (self.args, self.kwargs), is_leaf=is_layout)
        return lambda: self.function(*args, **kwargs)


def is_layout(x: object) -> bool:
    return isinstance(x, Layout)


class Recorder(TorchDispatchMode):
    """Inside, every operation is noted: products by what they are given, and the bytes of the others by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.products: dict[str, Product] = {}
        self.counts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet, name = function.overloadpacket, function.overloadpacket.__name__
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        layouts = tree_map_only(Tensor, Layout.of, (args, kwargs))
        before = {x.untyped_storage().data_ptr() for x in given}
        out = function(*args, **kwargs)
        if packet in flop_registry or packet in FUSED_ATTENTION:
            shapes = ", ".join("x".join(map(str, x.shape)) for x in given)
            key = f"{name} {layouts}"
            self.products.setdefault(key, Product(f"{name}({shapes})", function, *layouts))
            self.counts[key] += 1
            return out
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        changes = function._schema.is_mutable
        if name in FREE or (not changes and made and all(x.untyped_storage().data_ptr() in before for x in made)):
            return out  # memory that is not touched, or a view
        written = self.written(function, args, kwargs) if changes else made
        operands = tree_leaves((args, {key: value for key, value in kwargs.items() if key != "out"}))
        read = [x for x in operands if isinstance(x, Tensor) and name not in WRITES_ONLY]
        self.bytes[name] += sum(Layout.of(x).bytes for x in (*read, *written))
        return out

    @staticmethod
    def written(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        """The arguments that an operation writes to."""
        named = {a.name: value for a, value in zip(function._schema.arguments, args, strict=False)} | kwargs
        places = [a.name for a in function._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        return [x for x in tree_leaves([named.get(name) for name in places]) if isinstance(x, Tensor)]


FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
WRITES_ONLY = {"random_", "zero_", "fill_", "normal_", "zeros_like", "ones_like", "new_zeros", "new_ones"}


def main() -> None:
    parser = options(__doc__, device="cpu")
    parser.add_argument("--data", nargs="+", choices=list(PUBLISHED_GFLOP), default=["fisv"])
    parser.add_argument("--batch", type=int, default=32)
    add_processor_time(parser)
    arguments, device = parsed(parser)
    clock_of(arguments)
    if device.type != "cpu":
        parser.error("the roofline is of a CPU; on a GPU see python -m benchmarks.gpu")
    report = Report("roofline", arguments, device)
    for data in arguments.data:
        measure(data, arguments, device, report)
    report.write()


def measure(data: str, arguments: argparse.Namespace, device: torch.device, report: Report) -> None:
    """One data set's step beside the sum of its operations."""
    shape = shape_of(data, arguments.batch)
    step = full_size_step(data, shape.rows, "float32", device)
    step()  # the optimizer's state is made in the first
    with Recorder() as recorder:
        step()
    keys = list(recorder.products)
    alone = {key: recorder.products[key].work() for key in keys}
    large, copy = matrix_product(device), memory_copy(device)
    works = {"large": large, "copy": copy, "step": Work(step), **{key: Work(run) for key, run in alone.items()}}
    seconds = by_turns(works, arguments.repeats, device, clock_of(arguments))
    moved = sum(recorder.bytes.values())
    in_memory = [moved / rate for rate in rates(copy, seconds["copy"])]
    in_products = [sum(recorder.counts[key] * seconds[key][turn] for key in keys) for turn in range(arguments.repeats)]
    whole = [a + b for a, b in zip(in_memory, in_products, strict=True)]

    report.section(f"{data}: {shape.rows} videos of {shape.clips} clips")
    report.add("step", seconds["step"], "s")
    report.add("large product", [rate / 1e9 for rate in rates(large, seconds["large"])], "GFLOP/s")
    report.add("copy", [rate / 1e9 for rate in rates(copy, seconds["copy"])], "GB/s")
    published = [1e9 * PUBLISHED_GFLOP[data] * shape.rows / 32 / rate for rate in rates(large, seconds["large"])]
    report.add("step / published operations at the large product's rate", ratios(seconds["step"], published))
    report.add("its products, each alone", in_products, "s")
    report.value("  of them distinct", len(keys))
    report.add("its other operations, at the copy's rate", in_memory, "s")
    report.value("  bytes", moved / 1e9, "GB")
    report.add("step / sum of its operations", ratios(seconds["step"], whole))
    report.value("  aim", AIM)
    flops = {key: operations(run) for key, run in alone.items()}
    most = sum(recorder.counts[key] * flops[key] for key in keys)
    at_the_large = [most / rate for rate in rates(large, seconds["large"])]
    report.add("its products alone / at the large product's rate", ratios(in_products, at_the_large))
    list_products(report, recorder, keys, flops, seconds, whole, large)
    for name, count in recorder.bytes.most_common(LISTED):
        report.value(f"  {name}: share of the other bytes", count / moved)


def list_products(
    report: Report,
    recorder: Recorder,
    keys: Sequence[str],
    flops: dict[str, int],
    seconds: dict[str, list[float]],
    whole: Sequence[float],
    large: Work,
) -> None:
    """The products that lose most time to the large product: how often, their share of the sum, their relative rate."""
    rate = spread(rates(large, seconds["large"])).median

    def lost(key: str) -> float:
        return recorder.counts[key] * (spread(seconds[key]).median - flops[key] / rate)

    for key in sorted(keys, key=lost, reverse=True)[:LISTED]:
        count, name = recorder.counts[key], recorder.products[key].name
        share = [count * taken / total for taken, total in zip(seconds[key], whole, strict=True)]
        achieved = [flops[key] / taken for taken in seconds[key]]
        report.add(f"{count} times {name}: share of the sum", share)
        report.add("  its rate / the large product's", ratios(achieved, rates(large, seconds["large"])))


if __name__ == "__main__":
    main()
