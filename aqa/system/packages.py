"""Which Python packages are installed."""

from __future__ import annotations

import re
from contextlib import suppress
from importlib.metadata import Distribution, distributions


def installed_packages() -> list[tuple[str, str]]:
    """The name and version of every installed package, in the order in which Python finds them.

    What its metadata say besides, such as its description, is not parsed, which takes fifteen times as long. A package
    whose metadata cannot be read is left out.
    """
    found = []
    for package in distributions():
        with suppress(OSError, UnicodeDecodeError):
            header = _header(package)
            name, version = _field("Name", header), _field("Version", header)
            if name and version:
                found.append((name, version))
    return found


def _header(package: Distribution) -> str:
    """The fields of a package's metadata; the last place is that of very old packages, as in importlib.metadata."""
    text = package.read_text("METADATA") or package.read_text("PKG-INFO") or package.read_text("") or ""
    return text.partition("\n\n")[0]


def _field(name: str, header: str) -> str:
    match = re.search(rf"^{name}:[ \t]*(\S.*?)[ \t]*$", header, re.MULTILINE | re.IGNORECASE)
    return match[1] if match else ""
