"""Adam and AdamW as torch has them, without loading torch's compiler.

The methods of torch's optimizers are wrapped, so that a compiled program may call them. The first call of a wrapped
method imports `torch._dynamo`, which takes about a second and some memory. Here no optimizer is compiled, so these two
have the same methods without the wrappers.
"""

from __future__ import annotations

import inspect
from typing import TypeVar

import torch

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)


def never_compiled(optimizer: type[Kind]) -> type[Kind]:
    """An optimizer that computes the same as a given one, for programs that do not compile it."""
    names = ("add_param_group", "zero_grad", "step", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in names}
    methods["step"] = torch.no_grad()(methods["step"])  # which one of the wrappers did
    return type(optimizer.__name__, (optimizer,), methods)


Adam = never_compiled(torch.optim.Adam)
AdamW = never_compiled(torch.optim.AdamW)
