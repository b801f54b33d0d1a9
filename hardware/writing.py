"""Files that commands write: whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hardware.errors import InputError


def check_output(path: Path) -> None:
    """Refuse a place that cannot be written, before anything is computed.

    Raises
    ------
    InputError
        Where the folder does not exist or may not be written, or the name is that of a folder.
    """
    try:
        is_folder, has_folder = path.is_dir(), path.parent.is_dir()
    except OSError as error:  # a folder that may not be entered
        raise InputError(f"{path}: cannot be written ({error.strerror}); name a file in a folder of yours") from None
    if is_folder:
        raise InputError(f"{path}: cannot be written (it is a directory); name a file")
    if not has_folder:
        raise InputError(f"{path}: cannot be written (No such file or directory); name a file in a folder that exists")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: cannot be written (Permission denied); name a file in a folder of yours")


def write_text(path: Path, text: str) -> None:
    """Write a file of text in UTF-8, as `write_bytes` does.

    Raises
    ------
    InputError
        Where the file cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file by way of a temporary one beside it.

    Raises
    ------
    InputError
        Where the file cannot be written.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a terminal or a pipe must not be replaced
            path.write_bytes(content)
        else:
            _replace(path.resolve(), content)  # a link stays a link
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def _replace(path: Path, content: bytes) -> None:
    """Put a new file in the place of a file, or leave nothing behind."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.close()
            temporary.chmod(_mode())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same keys as comma-separated values.

    Raises
    ------
    InputError
        Where the file cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    if rows:
        table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue())


def _mode() -> int:
    """What a new file may be used for, as for every other: temporary files are their owner's only."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
