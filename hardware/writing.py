"""Files that commands write: whole or not at all."""

from __future__ import annotations

import csv
import io
import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from hardware.errors import InputError


def check_output(path: Path) -> None:
    """Refuse a place that cannot be written, before anything is computed.

    Raises
    ------
    InputError
        Where the folder does not exist or may not be written, or the name is that of a folder or stands for the output.
    """
    if str(path) == "-":
        raise InputError("-: is no file; name one, such as out.json")
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
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); name a file in a folder that can be written"
        ) from None


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


def yaml_text(document: Any) -> str:
    """Write a document as YAML that `hardware.reading` reads back; a part that holds no further parts is in one line.

    >>> print(yaml_text({"tp": 8, "pp": 2}), end="")
    tp: 8
    pp: 2
    >>> print(yaml_text({"id": "1e5", "plan": {"tp": 8, "pp": 2}}), end="")
    id: '1e5'
    plan: {tp: 8, pp: 2}
    """
    import yaml

    style: dict[str, Any] = {"sort_keys": False, "width": 118, "default_flow_style": None, "allow_unicode": True}
    return str(yaml.dump(document, Dumper=_dumper(), **style))


def yaml_value(value: Any) -> str:
    """Write one value as YAML in one line.

    >>> yaml_value("1e5"), yaml_value(["dp", "tp"]), yaml_value(True)
    ("'1e5'", '[dp, tp]', 'true')
    """
    import yaml

    style: dict[str, Any] = {"sort_keys": False, "width": math.inf, "default_flow_style": True, "allow_unicode": True}
    return str(yaml.dump([value], Dumper=_dumper(), **style))[1:-2]


@cache
def _dumper() -> Any:
    """A writer of YAML that quotes words which a reader of YAML 1.2 would take for numbers, such as 1e5."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def represent(self, data: Any) -> None:
            """Write a document, the keys of which have a line each."""
            node = self.represent_data(data)
            if isinstance(node, yaml.MappingNode):
                node.flow_style = False
            self.serialize(node)
            self.represented_objects, self.object_keeper, self.alias_key = {}, [], None

    Dumper.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9._]+(?:[eE][-+]?[0-9]+)?\Z"), list("-+0123456789.")
    )
    return Dumper


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
