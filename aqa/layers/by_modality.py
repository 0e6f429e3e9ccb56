"""A layer for each modality, whatever the modalities are called."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping

from torch import nn


def parameter_key(modality: str) -> str:
    """What a modality is called in the names of parameters: its name, escaped where torch would refuse it.

    torch takes no dots there and none of its own attributes (`forward`, `training`). Ordinary names stay as they are,
    and so do the checkpoints that hold them.
    """
    key = modality.replace("%", "%25").replace(".", "%2E")
    return f"%{key}" if hasattr(_NOTHING_IN_IT, key) else key


class ByModality(nn.ModuleDict):
    """An `nn.ModuleDict` whose keys may be any names of modalities."""

    def __init__(self, modules: Mapping[str, nn.Module]):
        self._key_of = {modality: parameter_key(modality) for modality in modules}
        super().__init__({self._key_of[modality]: module for modality, module in modules.items()})

    def __getitem__(self, modality: str) -> nn.Module:
        return self._modules[self._key_of[modality]]

    def __contains__(self, modality: object) -> bool:
        return modality in self._key_of

    def __iter__(self) -> Iterator[str]:
        return iter(self._key_of)

    def keys(self) -> KeysView[str]:
        """The modalities, in order."""
        return self._key_of.keys()

    def items(self) -> ItemsView[str, nn.Module]:
        """The modalities with their layers, in order."""
        return dict(zip(self._key_of, self.values(), strict=True)).items()


_NOTHING_IN_IT = ByModality({})
