"""Numbers of the authors' own code, and how far ours are from them.

`compare` records each distance; `pytest tests/golden` ends with a table of the largest per method, file and kind.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
#: Tolerances: values absolute, losses and norms of gradients relative.
VALUE, LOSS, GRADIENT = 1e-5, 1e-5, 1e-4
#: method or file -> kind -> the largest distance seen so far
DISTANCES = defaultdict(lambda: defaultdict(float))
#: (method, in what it is another one on purpose) -> the largest difference that this makes to the file's numbers
DELIBERATE = {}


def load(name):
    """The arrays of a file in this folder, by key."""
    with np.load(HERE / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def tensor(array):
    """An array as a tensor that may be written to."""
    return torch.from_numpy(np.array(array))


def state(vectors, prefix="state."):
    """What begins with a prefix, as tensors, without it."""
    return {key.removeprefix(prefix): tensor(x) for key, x in vectors.items() if key.startswith(prefix)}


def compare(method, kind, ours, theirs, tolerance, relative=False):
    """Whether ours is within the tolerance of theirs; the distance is recorded. relative: to theirs, numbers alone."""
    ours, theirs = np.asarray(torch.as_tensor(ours).detach(), dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    assert ours.shape == theirs.shape
    distance = float(np.max(np.abs(ours - theirs) / (np.abs(theirs) if relative else 1.0)))
    DISTANCES[method][kind] = max(DISTANCES[method][kind], distance)
    return distance <= tolerance


def values(method, ours, theirs, tolerance=VALUE):
    """Whether values agree."""
    return compare(method, "values", ours, theirs, tolerance)


def losses(method, ours, theirs):
    """Whether losses agree."""
    return compare(method, "losses", ours, theirs, LOSS, relative=True)


def gradients(method, ours, vectors, prefix, tolerance=GRADIENT, rounding=1e-6):
    """The parameters whose gradients have another norm than the file says; it has one of every parameter.

    ours: published name -> our gradient. Norms that are rounding alone (a bias before a batch norm, a bias of keys)
    have no relative distance: below this share of the total, ours has to be about as small.
    """
    prefix = f"{prefix}grad_norm"
    total = float(vectors[f"{prefix}_total"])
    expected = {key.removeprefix(f"{prefix}."): float(x) for key, x in vectors.items() if key.startswith(f"{prefix}.")}
    assert expected
    wrong = []
    for name, norm in expected.items():
        own = float(ours[name].norm()) if name in ours else 0.0
        if norm < rounding * total:
            wrong += [name] * (own > 10 * rounding * total)
        elif not compare(method, "gradients", own, norm, tolerance, relative=True):
            wrong.append(name)
    return wrong


def deliberate(method, what, ours, theirs):
    """By how much numbers differ where ours is another way on purpose; recorded for the table."""
    found = float((torch.as_tensor(ours).detach().double() - tensor(np.asarray(theirs, dtype=np.float64))).abs().max())
    DELIBERATE[method, what] = max(DELIBERATE.get((method, what), 0.0), found)
    return found


def named_gradients(model, theirs):
    """The gradients of a model by their published names; those of unused parameters are left out."""
    return {theirs(name): p.grad for name, p in model.named_parameters() if p.grad is not None}
