"""Names of files and anchors: short, of plain characters, and no two alike."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Sequence

LONGEST = 60  # bytes of what is readable in a name


def unique_names(keys: Sequence[tuple[str, ...]], taken: Collection[str] = ()) -> list[str]:
    """A name for each of some different keys; a digest of the key is added where its words are long or not its own.

    taken: names that are given already. Names that differ in case alone are one to some file systems.
    """
    slugs = [_slug(" ".join(key)) for key in keys]
    count = Counter(slug.lower() for slug, _ in slugs) + Counter(name.lower() for name in taken)
    return [
        slug if whole and slug and count[slug.lower()] == 1 else f"{slug}-{_digest(key)}".lstrip("-")
        for key, (slug, whole) in zip(keys, slugs, strict=True)
    ]


def _slug(words: str) -> tuple[str, bool]:
    """The letters, digits, points and underscores of some words, and whether all of them fit."""
    slug = re.sub(r"[^\w.-]+", "-", words, flags=re.ASCII).strip("-.")
    return slug[:LONGEST].rstrip("-."), len(slug) <= LONGEST


def slug_and_digest(word: str) -> str:
    """What is readable of a word, and a digest of all of it."""
    return f"{_slug(word)[0]}-{_digest((word,))}".lstrip("-")


def _digest(key: tuple[str, ...]) -> str:
    return hashlib.sha256(repr(key).encode("utf-8", "backslashreplace")).hexdigest()[:8]
