"""Records on disk: read whatever a killed run left, add one result at a time, merge two runs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from hardware.errors import InputError, shown
from hardware.reading import build, parse_json, read_text
from hardware.writing import check_output, write_text
from simulator.profiling.records.record import (
    FORMAT,
    VERSION,
    Again,
    Environment,
    Header,
    Record,
    Result,
    Session,
    better,
    document_kind,
    first_line,
    line_of,
)

MOST_BYTES = 50_000_000
"""The largest record that is read: a thousand results have half a megabyte."""
MOST_LINE = 20_000
"""The longest line [characters]."""
MOST_RESULTS = 100_000


def read(path: Path) -> Record:
    """Read a record; an unfinished last line is left out, and the record says so.

    Raises
    ------
    InputError
        One sentence, where the file is no record, is damaged, or was written by a later version.
    """
    text = read_text(path, most_bytes=MOST_BYTES)
    finished, _, rest = text.rpartition("\n")
    lines = finished.split("\n") if finished or text.startswith("\n") else []
    if len(lines) > MOST_RESULTS:
        raise InputError(f"{path}: has more than {MOST_RESULTS:,} lines, the most that are read")
    if not lines:
        return _started(path, rest)
    sessions = [_Open(_header(path, lines[0]))]
    for number, line in enumerate(lines[1:], start=2):
        _take(sessions, line, f"{path}:{number}")
    dropped = ""
    if rest:
        try:  # whole but for its end of line
            _take(sessions, rest, f"{path}:{len(lines) + 1}")
        except InputError:
            dropped = f"line {len(lines) + 1} was not finished and is left out ({len(rest)} characters)"
    return Record(tuple(Session(each.environment, tuple(each.results)) for each in sessions), dropped)


class _Open:
    """A session whose results are being read."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.results: list[Result] = []


def _take(sessions: list[_Open], line: str, place: str) -> None:
    """Add what one line says."""
    document = _parsed(line, place)
    with_place = _Placed(place)
    if document_kind(document) is Result:
        sessions[-1].results.append(with_place.build(Result, document))
        return
    environment = with_place.build(Again, document).environment
    if not environment.device.same(sessions[0].environment.device):
        raise InputError(f"{place}: goes on with another device, {shown(environment.device.name)}")
    sessions.append(_Open(environment))


class _Placed:
    """Builds data, and names the line where that fails."""

    def __init__(self, place: str) -> None:
        self.place = place

    def build(self, kind: Any, document: Any) -> Any:
        """Validate a document."""
        try:
            return build(kind, document)
        except InputError as error:
            raise InputError(f"{self.place}: {error}") from None


def _parsed(line: str, place: str) -> Any:
    """One line as data."""
    if len(line) > MOST_LINE:
        raise InputError(f"{place}: the line has more than {MOST_LINE:,} characters, the most that are read")
    try:
        return parse_json(line, place)
    except InputError as error:
        raise InputError(f"{place}: is damaged ({str(error).removeprefix(place).lstrip(':1 ')})") from None


def _header(path: Path, line: str) -> Environment:
    """The first line, or a sentence that says what the file is instead."""
    foreign = InputError(f"{path}: is no record of capsim measure; its first line does not say so")
    try:
        document = _parsed(line, f"{path}:1")
    except InputError:
        raise foreign from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise foreign
    version = document.get("version")
    if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
        raise InputError(
            f"{path}: is a record of version {shown(version)}, and this capsim reads version {VERSION}; update capsim"
        )
    environment: Environment = _Placed(f"{path}:1").build(Header, document).environment
    return environment


def _started(path: Path, rest: str) -> Record:
    """A file of one unfinished line: a record if the line is whole but for its end."""
    if not rest:
        raise InputError(f"{path}: is empty; a record begins with a line that says what was measured on")
    return Record((Session(_header(path, rest)),))


def merge(first: Record, second: Record, *, names: tuple[str, str] = ("the first", "the second")) -> Record:
    """All results of two runs on the same kind of device; of a case that both have, that with more samples.

    Raises
    ------
    InputError
        Where the devices differ.
    """
    one, other = first.environment.device, second.environment.device
    if not one.same(other):
        raise InputError(
            f"{names[1]} was measured on {_device(other)} and {names[0]} on {_device(one)}; "
            "only records of the same device merge"
        )
    kept = {result.case.key: result for result in better([*first.results, *second.results])}
    sessions: list[_Open] = []
    for session in (*first.sessions, *second.sessions):
        own = [kept.pop(result.case.key) for result in session.results if kept.get(result.case.key) is result]
        same = next((each for each in sessions if each.environment == session.environment), None)
        if same is None and own:
            sessions.append(same := _Open(session.environment))
        if same is not None:
            same.results += own
    filled = tuple(Session(each.environment, tuple(each.results)) for each in sessions)
    return Record(filled or (Session(first.environment),))


def _device(device: Any) -> str:
    """A device in words."""
    return f"{device.name} ({device.memory_bytes / 2**30:.0f} GiB, {device.processors} processors)"


def write(path: Path, record: Record) -> None:
    """Write a record, whole or not at all."""
    text = []
    for number, session in enumerate(record.sessions):
        first = first_line(session.environment) if number == 0 else line_of(Again(environment=session.environment))
        text += [first, *(line_of(result) for result in session.results)]
    write_text(path, "".join(text))


class Journal:
    """A record that grows by one result at a time, each of which is on disk before the next begins.

    Parameters
    ----------
    path
        The file; if it is there the run goes on with it.
    environment
        Of this run.

    Raises
    ------
    InputError
        Where the file is no record, or one of another device or other software, or another run is writing it.
    """

    def __init__(self, path: Path, environment: Environment) -> None:
        self.path = path
        check_output(path)
        fresh = not path.exists() and _create(path, first_line(environment))
        self._file: IO[bytes] = _opened(path)
        try:
            _lock(self._file, path)
            self.record = None if fresh else read(path)
            if self.record is not None:
                _check_same(path, self.record, environment)
            self._seek_end()
            if self.record is not None:
                self._append(line_of(Again(environment=environment)))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, result: Result) -> None:
        """Write a result through to the disk."""
        self._append(line_of(result))

    def _append(self, line: str) -> None:
        self._file.write(line.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _seek_end(self) -> None:
        """Go to the end, or to that of the last line that is finished."""
        raw = self._file.read()
        end = raw.rfind(b"\n") + 1
        if self.record is not None and not self.record.dropped and end < len(raw):
            self._file.write(b"\n")  # the last line is whole but for its end
            return
        self._file.truncate(end)
        self._file.seek(end)


def _create(path: Path, text: str) -> bool:
    """Make a file with a text, whole or not at all; false where somebody else was faster."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_text(temporary, text)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # file systems without links
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()
    return True


def _opened(path: Path) -> IO[bytes]:
    """The file, to be read and written."""
    try:
        return path.open("r+b")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def _check_same(path: Path, record: Record, environment: Environment) -> None:
    """Refuse to go on with a file of another device or of other software."""
    last = record.sessions[-1].environment
    if not last.device.same(environment.device):
        raise InputError(
            f"{path}: was measured on {_device(last.device)}, and this is {_device(environment.device)}; "
            "give another file with -o"
        )
    for name, before in last.software.model_dump().items():
        now = getattr(environment.software, name)
        if before != now:
            raise InputError(
                f"{path}: was measured with {name} {before}, and this is {now}; give another file with -o, "
                "and merge the two afterwards"
            )


def _lock(file: IO[bytes], path: Path) -> None:
    """Keep a second run off the file, where the system can."""
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another run is writing it; give another file with -o") from None
        except OSError:  # file systems without locks
            return
