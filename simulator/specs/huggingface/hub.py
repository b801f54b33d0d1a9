"""Configurations of the Hugging Face hub: from its cache on this machine, or fetched by its library."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hardware.errors import InputError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = (".yaml", ".yml", ".json")


def is_hub_id(name: object) -> bool:
    """Whether a name is like one of the hub, owner/name, and neither a file nor a folder.

    >>> is_hub_id("meta-llama/Llama-3.1-8B"), is_hub_id("models/mine.yaml"), is_hub_id("bert-large")
    (True, False, False)
    """
    return isinstance(name, str) and bool(_ID.fullmatch(name)) and not name.endswith(_FILES) and not Path(name).exists()


def config_of(name: str) -> Path:
    """The configuration of a model of the hub.

    Parameters
    ----------
    name
        Owner and name, such as ``meta-llama/Llama-3.1-8B``.

    Raises
    ------
    InputError
        One sentence that says what to do, where it is neither on this machine nor to be had.
    """
    return _cached(name) or _fetched(name)


def cache_folder() -> Path:
    """Where the hub's library keeps files: the variables that it reads say so."""
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if own:
        return Path(own).expanduser()
    home = os.environ.get("HF_HOME")
    above = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return (Path(home) if home else above / "huggingface").expanduser() / "hub"


def repository_of(path: Path) -> str:
    """The name of the model whose snapshot in the cache a file belongs to; empty for files elsewhere."""
    places = path.parts
    owner = places[-4] if len(places) > 3 and places[-3] == "snapshots" else ""
    return owner.rpartition("--")[2] if owner.startswith("models--") else ""


def _cached(name: str) -> Path | None:
    """The file in the cache: of the commit that the main branch was at, or else of the newest snapshot."""
    folder = cache_folder() / f"models--{name.replace('/', '--')}"
    snapshots = folder / "snapshots"
    try:
        commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        commit = ""
    if re.fullmatch(r"[0-9a-f]{7,64}", commit) and (snapshots / commit / "config.json").is_file():
        return snapshots / commit / "config.json"
    others = [path for path in snapshots.glob("*/config.json") if path.is_file()]
    return max(others, key=lambda path: path.stat().st_mtime, default=None)


def _fetched(name: str) -> Path:
    """The file from the hub, which the library puts into its cache."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from huggingface_hub import constants, hf_hub_download
    except ImportError:
        raise InputError(
            f"{name} is neither in the catalogue nor in the Hugging Face cache {cache_folder()}; pip install "
            "'capsim[hub]' lets capsim fetch its config.json, or give the path of one"
        ) from None
    try:
        return Path(hf_hub_download(name, "config.json"))
    except (OSError, ValueError) as error:
        # What the library raises derives from these: no such model, gated, offline, unreachable.
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"{name} is not in the catalogue, and its config.json cannot be fetched from {constants.ENDPOINT} "
            f"({why.rstrip('.')[:160]}); check the name, log in where it is gated, or give the path of a config.json"
        ) from None
