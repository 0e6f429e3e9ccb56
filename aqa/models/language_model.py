"""A pretrained causal language model, read from a local folder: frozen, with low-rank adapters that learn.

Read by transformers, of any family that it knows: from safetensors alone, without code from the folder and without the
network. Adapters (LoRA, arXiv 2106.09685) by peft. Both come with the extra `llm`, and are imported only where a
language model is asked for.

The frozen weights are buffers that no checkpoint holds. A checkpoint has their fingerprint, and refuses to be loaded
onto others.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aqa.errors import AqaError, first_line, out_of_memory

WHERE = "option 'llm'"
_READING = ContextVar("reading", default=False)


class Pretrained(NamedTuple):
    """What a folder holds.

    network: the model without its head, which reads embeddings. table (V, H): embeddings by token. tokenizer: that of
    transformers. kind: the family's name ("llama").
    """

    network: nn.Module
    table: Tensor
    tokenizer: Any
    kind: str


def reading() -> bool:
    """Whether a pretrained model is being read: its size is that of files on this machine, not of a checkpoint."""
    return _READING.get()


def read_pretrained(folder: str) -> Pretrained:
    """The causal language model in a folder, float32, with its tokenizer; AqaError, one line, where it has none."""
    path = Path(folder).expanduser()
    _require_readable(path)
    transformers = _imported("transformers")
    options = {"local_files_only": True, "trust_remote_code": False}
    with _quietly(transformers), _said_in_one_line(path):
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **options)
        language_model, found = transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
        )
    if lacking := sorted(found["missing_keys"]):
        raise AqaError(f"{WHERE}: the weights in {path} lack '{lacking[0]}'; they would be random numbers")
    network = language_model.base_model
    table = network.get_input_embeddings().weight.detach()
    if table.shape[1] != network.config.hidden_size:
        raise AqaError(
            f"{WHERE}: {path} has embeddings of {table.shape[1]} channels and states of {network.config.hidden_size}; "
            "they must be equally wide"
        )
    # It is given embeddings, and looks none up.
    network.set_input_embeddings(nn.Embedding.from_pretrained(torch.zeros(1, table.shape[1])))
    return Pretrained(network, table, tokenizer, network.config.model_type)


def _require_readable(path: Path) -> None:
    """AqaError unless a folder has the files of a model whose weights are safetensors."""
    if not path.is_dir():
        raise AqaError(f"{WHERE}: no folder at {path} (relative to {Path.cwd()})")
    if not (path / "config.json").is_file():
        raise AqaError(f"{WHERE}: {path} has no config.json; it needs to be a model as transformers saves it")
    if (path / "adapter_config.json").is_file():
        raise AqaError(f"{WHERE}: {path} holds adapters of peft; merge them into the model and save that")
    if not list(path.glob("*.safetensors")):
        pickled = [file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in sorted(path.glob(pattern))]
        why = f"; {pickled[0]} is pickled, and not read" if pickled else ""
        raise AqaError(f"{WHERE}: {path} has no weights as safetensors{why}")


def _imported(name: str) -> Any:
    """A package of the extra; AqaError where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise AqaError(
            f"{WHERE} needs the package {name}: pip install 'aqa-incomplete[llm]' ({first_line(error)})"
        ) from None


@contextmanager
def _quietly(transformers: Any) -> Iterator[None]:
    """Without progress bars, and with errors alone on the terminal; as it was afterwards."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


@contextmanager
def _said_in_one_line(path: Path) -> Iterator[None]:
    """What transformers says of a folder that it cannot read, as an AqaError."""
    token = _READING.set(True)
    try:
        yield
    except AqaError:
        raise
    except Exception as error:  # of many kinds, by transformers, tokenizers and safetensors
        if out_of_memory(error):
            raise
        raise AqaError(f"{WHERE}: {path} cannot be read: {first_line(error)}") from None
    finally:
        _READING.reset(token)


class LanguageModel(nn.Module):
    """A frozen network that reads embeddings, with low-rank adapters: (n, S, H) -> (n, S, H).

    identity: what else must be the same for a checkpoint to fit, such as the tokens of a prompt.
    """

    fingerprint: Tensor

    def __init__(
        self,
        pretrained: Pretrained,
        *,
        rank: int,
        alpha: float,
        dropout: float,
        targets: Sequence[str],
        identity: object = None,
    ):
        super().__init__()
        self.network = add_adapters(pretrained, rank, alpha, dropout, targets)
        weights = freeze(self.network)
        self.takes_positions = "position_ids" in inspect.signature(self.network.forward).parameters
        self.longest = getattr(self.network.config, "max_position_embeddings", None)
        self.register_buffer("fingerprint", fingerprint(weights, identity))

    def forward(self, embeddings: Tensor, real: Tensor | None = None) -> Tensor:
        """The last layer's states. real (n, S) bool: the places that are read, all of them where None.

        The others are neither attended to nor counted as positions.
        """
        if self.longest is not None and embeddings.shape[1] > self.longest:
            raise AqaError(
                f"the language model reads {self.longest} places, a video takes {embeddings.shape[1]}; "
                "set data.clips to fewer clips"
            )
        how: dict[str, Tensor] = {}
        if real is not None:
            how["attention_mask"] = real.long()
            if self.takes_positions:
                how["position_ids"] = (real.long().cumsum(dim=1) - 1).clamp(min=0)
        states: Tensor = self.network(inputs_embeds=embeddings, use_cache=False, **how).last_hidden_state
        return states

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        given = state_dict.get(f"{prefix}fingerprint")
        if isinstance(given, Tensor) and not torch.equal(given.cpu(), self.fingerprint.cpu()):
            error_msgs.append("they were trained on another language model, tokenizer or prompt than those given")
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def add_adapters(pretrained: Pretrained, rank: int, alpha: float, dropout: float, targets: Sequence[str]) -> nn.Module:
    """The network with adapters on the layers called `targets`, which alone learn.

    AqaError where no layer has such a name.
    """
    peft, network = _imported("peft"), pretrained.network
    names = {name.rpartition(".")[2] for name, layer in network.named_modules() if _is_linear(layer)}
    if lacking := [target for target in targets if target not in names]:
        raise AqaError(
            f"option 'lora_targets': the language model ({pretrained.kind}) has no layers called "
            f"{', '.join(lacking)}; name those of its attention, of {', '.join(sorted(names))}"
        )
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on how layers of GPT-2 are laid out, which is right
        adapted: nn.Module = peft.inject_adapter_in_model(config, network)
    return adapted


def _is_linear(layer: nn.Module) -> bool:
    """Whether it is a matrix: GPT-2 has its own kind."""
    return isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D"


def freeze(network: nn.Module) -> dict[str, Tensor]:
    """Make buffers that are not saved of all parameters that do not learn; returns them by name."""
    weights = {
        name: parameter.detach() for name, parameter in network.named_parameters() if not parameter.requires_grad
    }
    for layer in network.modules():
        for name, parameter in list(layer.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                delattr(layer, name)
                layer.register_buffer(name, parameter.detach(), persistent=False)
    return weights


def fingerprint(weights: Mapping[str, Tensor], identity: object) -> Tensor:
    """SHA-256 of weights and of what else is to be the same, (32,) bytes; AqaError for weights that are not finite."""
    digest = hashlib.sha256(json.dumps(identity).encode())
    for name in sorted(weights):
        values = weights[name].contiguous()
        if values.is_floating_point() and not torch.isfinite(values).all():
            raise AqaError(f"{WHERE}: the weights '{name}' hold NaN or infinite numbers")
        digest.update(f"{name} {tuple(values.shape)} ".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def embeddings_of(table: Tensor, tokens: Iterable[int]) -> Tensor:
    """Embeddings (n, H) to start from. Tokens that a table (V, H) does not have start near its mean.

    That is how transformers starts new tokens: a deviation of 3e-5 of the table's, here channel by channel.
    """
    mean, deviation = table.mean(dim=0), table.std(dim=0)
    rows = [table[t] if t < len(table) else mean + 1e-9**0.5 * deviation * torch.randn_like(mean) for t in tokens]
    return torch.stack(rows)
