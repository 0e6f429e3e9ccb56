"""Mistakes on the command line, each in one line that says what to type instead."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

from aqa.config.schema import Experiment, ModelConfig, StrictConfig
from aqa.config.yaml import split_by_shell
from aqa.errors import AqaError, first_line, out_of_memory


def explain_error(error: Exception, arguments: Sequence[str]) -> str | None:
    """What a user is told of an error of a command with these arguments; None if it is a fault of the program."""
    if isinstance(error, AqaError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")
    if hasattr(error, "format_message"):  # click's own: a wrong option, a missing argument
        return explain_usage(error.format_message().replace("\n", " "), arguments)
    if out_of_memory(error):
        return f"not enough memory: {first_line(error)}; see train.batch_size, data.clips and the sizes of the model"
    return None


def explain_usage(message: str, arguments: Sequence[str]) -> str:
    """The words of click, with what it cannot know: how a change to an experiment is written, what needs quotes."""
    if whole := split_by_shell(arguments):
        return f"{message}; the shell splits at spaces what is not quoted: write {whole}"
    option = re.match(r"No such option: --([\w.-]+)", message)
    if option and arguments[:1] == ["run"]:
        name = option.group(1)
        if key := key_of(name.replace("-", "_")):
            change = f"{key}={value_of(name, arguments)}"
            return f"No such option: --{name}; a change to the experiment is written without dashes: {change}"
        if "--help" in message or "Possible options" not in message:
            message = (
                f"No such option: --{name}; a change to the experiment is written KEY=VALUE, such as train.epochs=5"
            )
    return message


def key_of(option: str) -> str | None:
    """The key of an experiment that an option written by mistake names: by all of it, or by its last part."""
    if "." in option:
        return option
    keys = list(all_keys())
    called = [key for key in keys if option in (key, last_part(key))] + [k for k in keys if k == f"{option}.name"]
    return min(called, key=lambda key: key.count("."), default=None)


def last_part(key: str) -> str:
    """`epochs` of `train.epochs`."""
    return key.rpartition(".")[2]


def all_keys(section: Any = Experiment, prefix: str = "") -> Iterator[str]:
    """The dotted keys of an experiment file."""
    for name, field in section.model_fields.items():
        inner = field.annotation
        if inspect.isclass(inner) and issubclass(inner, (StrictConfig, ModelConfig)):
            yield from all_keys(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def value_of(option: str, arguments: Sequence[str]) -> str:
    """What was given for an option, `--option value` or `--option=value`; VALUE where nothing was."""
    for argument, following in zip(arguments, [*arguments[1:], "-"], strict=True):
        name, equals, value = argument.partition("=")
        if name == f"--{option}":
            return value if equals else "VALUE" if following.startswith("-") else following
    return "VALUE"
