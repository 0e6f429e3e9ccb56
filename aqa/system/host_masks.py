"""Masks on a GPU of which the host has a twin, so that it knows what they pick without waiting for the GPU.

In scoring the patterns' masks are made on the host, and `known` gives the mask on the device its twin. What is made of
a mask by the functions below has one as well; what is made of it in any other way has none. On a CPU every mask is its
own twin, and all this does nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aqa.system.devices import on_device

TWIN = "aqa_on_host"  # the attribute of a tensor that holds it


def known(mask: Tensor, twin: Tensor) -> Tensor:
    """A mask, or lengths, of which the host has the same on the CPU from now on."""
    if mask.device.type != "cpu":
        vars(mask)[TWIN] = twin
    return mask


def on_host(mask: Tensor) -> Tensor | None:
    """A mask as the host knows it, or None: it would have to wait for it, or this code is being compiled."""
    if torch.compiler.is_compiling():
        return None
    found: Tensor | None = mask if mask.device.type == "cpu" else vars(mask).get(TWIN)
    return found


def asked(mask: Tensor) -> Tensor:
    """A mask on the host, which waits for it where it does not know it."""
    found = on_host(mask)
    return mask.cpu() if found is None else found


def told(mask: Tensor) -> Tensor:
    """A mask that the host knows from now on, if it has to wait for it once."""
    return known(mask, asked(mask))


def likewise(function: Callable[[Tensor], Tensor], mask: Tensor) -> Tensor:
    """function(mask), known to the host where the mask is."""
    made, twin = function(mask), on_host(mask)
    return made if twin is None or twin is mask else known(made, function(twin))


def slices(mask: Tensor, dim: int) -> list[Tensor]:
    """The slices of a mask along a dimension, each known to the host where the mask is."""
    twin = on_host(mask)
    if twin is None or twin is mask:
        return list(mask.unbind(dim))
    return [known(one, other) for one, other in zip(mask.unbind(dim), twin.unbind(dim), strict=True)]


def places(mask: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """Where a mask on the host is true, as an index for tensors on a device: numbers (n,) for each dimension."""
    found = mask.nonzero(as_tuple=True)
    return found if device.type == "cpu" else tuple(on_device(numbers.numpy(), device) for numbers in found)


def row_numbers(rows: Tensor) -> Tensor:
    """The numbers (n,) of the rows (B,) that are true, where they are."""
    return places(asked(rows), rows.device)[0]


def selected(x: Tensor, rows: Tensor) -> Tensor:
    """Those rows of x (B, ...) where rows (B,) is true; x itself if all are. Known to the host where both are."""
    twin = asked(rows)
    if twin.all():
        return x
    if twin is rows:
        return x[rows]
    made, whole = x[row_numbers(rows)], on_host(x)
    return made if whole is None else known(made, whole[twin])
