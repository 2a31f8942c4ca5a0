"""Generated sources as files of the cache folder."""

from __future__ import annotations

from pathlib import Path

from ..cache import cache_dir, digest, write_whole


def stored(name: str, source: str) -> Path:
    """A Python file that holds exactly this source, under a name made of it."""
    path = cache_dir() / "triton" / f"{name[:40]}_{digest(source)[:20]}.py"
    data = source.encode()
    if not path.exists() or path.read_bytes() != data:
        write_whole(path, data)
    return path
