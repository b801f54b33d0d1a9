"""Where independent pieces of a sweep are computed: here, on all cores of this machine, or on a cluster."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from typing import Any, NamedTuple, TypeVar

from hardware.errors import InputError, shown

Task = TypeVar("Task")
Result = TypeVar("Result")
_FEW = 4
"""Tasks for which other processes are not worth their start."""
_PATIENCE = 5.0
"""How long a scheduler may take to answer [s]."""
_DESERTED = 30.0
"""How long a cluster may be without workers before a sweep gives up; lost workers are often replaced [s]."""
_MOST = 1024
"""Processes on one machine."""


class Pool(NamedTuple):
    """Workers, and whether any of them are left."""

    executor: Executor
    is_deserted: Callable[[], bool]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(
    work: Callable[[Task], Result], tasks: Sequence[Task], *, cluster: str | None = None, processes: int | None = None
) -> Generator[Result, None, None]:
    """Results of independent tasks, in the order in which they are ready.

    Where processes of this machine are lost, this one does what they left. A cluster gives the work of a lost worker to
    the others.

    Parameters
    ----------
    work
        A function of a module, which other processes can import.
    tasks
        Its arguments.
    cluster
        Address of a Dask scheduler such as ``tcp://10.0.0.1:8786``; this machine's cores unless given.
    processes
        On this machine; one a core unless given.

    Raises
    ------
    InputError
        Where the cluster cannot be reached or is lost, or what it needs is not installed.
    """
    if processes is not None and (
        isinstance(processes, bool) or not isinstance(processes, int) or not 1 <= processes <= _MOST
    ):
        raise InputError(f"processes={shown(processes)}: give a whole number from 1 to {_MOST}")
    if cluster is not None and not isinstance(cluster, str):
        raise InputError(f"cluster={shown(cluster)}: give the address of a Dask scheduler, such as tcp://10.0.0.1:8786")
    if cluster is not None:
        return _on_cluster(work, tasks, cluster)
    number = min(cores() if processes is None else processes, len(tasks))
    return _here(work, tasks, 1 if len(tasks) <= _FEW else number)


def _here(work: Callable[[Task], Result], tasks: Sequence[Task], processes: int) -> Generator[Result, None, None]:
    """Results that this machine computes."""
    if processes <= 1:
        yield from map(work, tasks)
        return
    left = dict(enumerate(tasks))
    # Started anew, so that threads of this process cannot trouble them. What ends them is this one, not Ctrl-C.
    executor = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_ignore_interrupts)
    with executor:
        try:
            for number, result in _ready(executor, work, tasks, lambda: False):
                del left[number]
                yield result
        except BrokenProcessPool:
            pass
    yield from map(work, left.values())


def _on_cluster(work: Callable[[Task], Result], tasks: Sequence[Task], address: str) -> Generator[Result, None, None]:
    """Results that a cluster computes."""
    with _cluster(address) as pool:
        try:
            for _, result in _ready(pool.executor, work, tasks, pool.is_deserted):
                yield result
        except CancelledError:
            raise InputError(f"cluster={shown(address)}: the scheduler was lost") from None
        except TimeoutError:
            raise InputError(f"cluster={shown(address)}: all workers were lost") from None
        except (ModuleNotFoundError, RuntimeError) as error:  # of a worker, or of the scheduler
            lacking = error.__cause__ if isinstance(error, RuntimeError) else error
            if not isinstance(lacking, ModuleNotFoundError):
                raise
            why = f"its scheduler or workers lack {lacking.name}; install the same capsim there"
            raise InputError(f"cluster={shown(address)}: {why}") from None


def _ready(
    executor: Executor, work: Callable[[Task], Result], tasks: Sequence[Task], is_deserted: Callable[[], bool]
) -> Iterator[tuple[int, Result]]:
    """Numbers of tasks and their results, as they are ready.

    Raises
    ------
    TimeoutError
        Where nobody is left to work.
    """
    with _uninterrupted():
        numbers = {executor.submit(work, task): number for number, task in enumerate(tasks)}
    try:
        left, alone = set(numbers), False
        while left:
            done, left = wait(left, timeout=_DESERTED, return_when=FIRST_COMPLETED)
            for future in done:
                yield numbers[future], future.result()
            if not done and alone and is_deserted():
                raise TimeoutError
            alone = not done and is_deserted()
    finally:
        for future in numbers:
            future.cancel()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back for a moment; processes that start meanwhile do not get it before they can ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it lets signals through when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the one that prints."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _cluster(address: str) -> Iterator[Pool]:
    """The workers of a Dask scheduler."""
    try:
        from distributed import Client
    except ImportError:
        raise InputError(f"cluster={shown(address)}: Dask is not installed; pip install 'capsim[cluster]'") from None
    _knock(address)
    client: Any = Client(address, timeout=_PATIENCE, set_as_default=False)
    executor: Executor | None = None
    try:
        if not _workers(client):
            raise InputError(f"cluster={shown(address)}: the scheduler has no workers; start some with dask worker")
        executor = client.get_executor()
        yield Pool(executor, lambda: not _workers(client))
    finally:
        if executor is not None:
            executor.shutdown(wait=False)  # what is still to be done is given up
        client.close(timeout=_PATIENCE)


def _knock(address: str) -> None:
    """Look whether a scheduler answers; Dask's client would wait forever for something else that listens there.

    Raises
    ------
    InputError
        Where none does.
    """
    from distributed.comm import get_address_host_port, normalize_address, parse_address

    try:
        whole = normalize_address(address)
        if parse_address(whole)[0] in ("tcp", "tls"):  # a connection that is refused would be tried again and again
            socket.create_connection(get_address_host_port(whole, strict=True), timeout=_PATIENCE).close()
        with ThreadPoolExecutor(1) as thread:  # this one may have an event loop already
            thread.submit(asyncio.run, _greeted(whole)).result()
    except Exception as error:  # whatever else listens there may answer anything
        why = "no scheduler answers; give its address, such as tcp://10.0.0.1:8786"
        raise InputError(f"cluster={shown(address)}: {why} ({type(error).__name__})") from None


async def _greeted(address: str) -> None:
    """Ask a scheduler who it is."""
    from distributed import Security
    from distributed.core import connect

    security = Security().get_connection_args("client")
    comm = await asyncio.wait_for(connect(address, timeout=_PATIENCE, **security), _PATIENCE)
    try:
        await comm.write({"op": "identity", "reply": True})
        answer = await asyncio.wait_for(comm.read(), _PATIENCE)
        if answer["type"] != "Scheduler":
            raise ValueError(f"a {answer['type']} listens there")
    finally:
        comm.abort()


def _workers(client: Any) -> bool:
    """Whether a scheduler has workers."""
    return bool(client.scheduler_info()["workers"])
