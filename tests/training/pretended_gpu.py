"""A GPU for tests on machines without one: tensors that say they are not on the CPU, and a list of what waits for them.

The numbers of such a tensor are computed on the CPU. To the program it is on torch's device "meta", which torch knows
everywhere and takes for no CPU, so that every branch on the device goes the way of a GPU. All operations pass through
`PretendedGPU`, which notes those for which a program would have to wait until a GPU's queue of work is done, with the
line of the package that asked. What is computed on the host from host tensors is not noted.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

import aqa

DEVICE = torch.device("meta")
PACKAGE = Path(aqa.__file__).parent
aten = torch.ops.aten

# Operations whose result, or its size, the host needs before it can go on.
WAITING = {
    "_local_scalar_dense",  # item(), bool(), float(), int()
    "equal",
    "allclose",
    "is_nonzero",
    "nonzero",
    "nonzero_numpy",
    "argwhere",
    "masked_select",
    "unique_consecutive",
    "unique_dim",
    "_unique",
    "_unique2",
    "bincount",
    "multinomial",  # which looks whether its weights are probabilities
    "_linalg_check_errors",  # of cholesky(), solve(), inv() and others that may fail
}


class OnDevice(torch.Tensor):
    """A tensor that says it is on the device; its numbers are in `held`, on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held, requires_grad=False):
        with torch.inference_mode(False):  # a view of an ordinary tensor has to be one, in that mode too
            made = torch.Tensor._make_wrapper_subclass(
                cls,
                held.shape,
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=DEVICE,
                requires_grad=requires_grad,
            )
        made.held = held
        return made

    def tolist(self):
        return self.cpu().tolist()

    def __repr__(self):
        return f"OnDevice({self.held})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return computed(function, args, kwargs or {})


def computed(function, args, kwargs):
    """An operation on tensors of the device, done on the CPU."""
    out = leaves(onto_device, function(*leaves(from_device, args), **leaves(from_device, kwargs)))
    if torch.is_inference_mode_enabled():  # in which torch keeps no account of views
        return out
    return return_and_correct_aliasing(function, args, kwargs, out)


def leaves(function, given):
    """What an operation is given, or gives, with a function applied to all that is no container."""
    if type(given) in (list, tuple):
        return type(given)([leaves(function, each) for each in given])
    if type(given) is dict:
        return {name: leaves(function, each) for name, each in given.items()}
    return function(given)


def from_device(x):
    if isinstance(x, OnDevice):
        return x.held
    return torch.device("cpu") if isinstance(x, torch.device) else x


def onto_device(x):
    return OnDevice(x) if isinstance(x, torch.Tensor) else x


def some_on_device(given):
    if type(given) in (list, tuple):
        return any(map(some_on_device, given))
    return isinstance(given, OnDevice)


class PretendedGPU(TorchDispatchMode):
    """Inside, torch has the device, and `waits` counts what waits for it: (operation, "file:line")."""

    def __init__(self):
        super().__init__()
        self.waits = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = some_on_device(args) or some_on_device([*kwargs.values()])
        asked = kwargs.get("device")
        name = function.overloadpacket._qualified_op_name.split("::")[1]
        if not given and asked != DEVICE:
            return function(*args, **kwargs)
        if torch.is_inference_mode_enabled():  # in which operations come whole that otherwise come in parts
            with self:
                made = function.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        if reason := self.reason(name, args, kwargs, given, asked):
            self.waits[reason, asking_line()] += 1
        if given and asked is not None and asked.type == "cpu":  # a copy to the host
            return function(*leaves(from_device, args), **kwargs).clone()
        return computed(function, args, kwargs)

    @staticmethod
    def reason(name, args, kwargs, given, asked):
        """What an operation is called if the host has to wait for the device in it, else None."""
        places = [x for x in (args[1] if name in INDEXING else []) if x is not None]
        masks = [x for x in places if x.dtype == torch.bool]
        if any(not isinstance(x, OnDevice) for x in places):
            return f"{name} from the host"
        if masks and not (name != "index" and args[2].numel() == 1 and not isinstance(args[2], OnDevice)):
            return f"{name} by bool"
        if name == "repeat_interleave" and kwargs.get("output_size") is None:
            return name
        if name == "_to_copy" and asked is not None and (asked.type == "cpu" or not given):
            return None if kwargs.get("non_blocking") else f"copy {'to' if asked.type == 'cpu' else 'from'} the host"
        if name == "copy_" and isinstance(args[0], OnDevice) != isinstance(args[1], OnDevice):
            return None if args[2:3] == (True,) else "copy_ between host and device"
        return name if name in WAITING else None


INDEXING = ("index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_")


def asking_line():
    """The innermost line of the package that is being run: for the backward pass the one that started it."""
    frame = sys._getframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if PACKAGE in path.parents:
            return f"{path.relative_to(PACKAGE.parent)}:{frame.f_lineno}, {frame.f_code.co_name}"
        frame = frame.f_back
    return "outside of the package"


@contextlib.contextmanager
def pretended_gpu():
    """A `PretendedGPU` for which torch pins memory, casts automatically and has fused optimizers, as for real ones."""
    with pytest.MonkeyPatch.context() as patch, PretendedGPU() as gpu:
        made = torch.tensor  # which makes tensors on a device out of sight of all modes
        patch.setattr(torch, "tensor", lambda data, device="cpu", **given: made(data, **given).to(device))
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
        patch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
        optimizer = sys.modules[torch.optim.Optimizer.__module__]
        patch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: [DEVICE.type, "cuda"])
        yield gpu
