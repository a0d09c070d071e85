"""Digests of the files that a policy is made of: what tells one from another of the same name."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from profiling.records import find_profiles


def file_digest(path: Path | str) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def profiles_digest(paths: Sequence[str]) -> str:
    """Return a digest of the profiles that files, folders and glob patterns name.

    Raises:
        ProfileError: If a pattern matches nothing.
    """
    return hashlib.sha256("\n".join(file_digest(file) for file in find_profiles(paths)).encode()).hexdigest()
