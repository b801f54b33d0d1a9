"""Independent tasks here, in other processes and on a real Dask cluster, which may lose workers."""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hardware.errors import InputError
from simulator.renting import workers
from tests.renting.clusters import Cluster, cluster

NUMBERS = [float(number) for number in range(40)]
ROOTS = [math.sqrt(number) for number in NUMBERS]


def _slow_root(number: float) -> float:
    time.sleep(0.02)
    return math.sqrt(number)


def _fatal_root(number: float) -> float:
    """A root, or the end of the process where it is not the first."""
    if number == 7.0 and multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return math.sqrt(number)


def _broken_root(number: float) -> float:
    return math.sqrt(20.0 - number)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler with two workers, for tests that leave them alive."""
    with cluster(tmp_path_factory.mktemp("cluster"), 2) as pair:
        yield pair


def _refusal(address: Any, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        list(workers.each(math.sqrt, NUMBERS, cluster=address, **options))
    assert str(error.value).isprintable()
    return str(error.value)


# here


def test_here_in_order() -> None:
    assert list(workers.each(math.sqrt, NUMBERS, processes=1)) == ROOTS
    assert list(workers.each(math.sqrt, [], processes=2)) == []


def test_in_processes() -> None:
    assert sorted(workers.each(math.sqrt, NUMBERS, processes=2)) == ROOTS


def test_few_tasks_start_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ProcessPoolExecutor", None)
    assert list(workers.each(math.sqrt, NUMBERS[:4])) == ROOTS[:4]


def test_what_lost_processes_leave_is_done_here() -> None:
    assert sorted(workers.each(_fatal_root, NUMBERS, processes=2)) == ROOTS


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_a_task_is_an_error(processes: int) -> None:
    with pytest.raises(ValueError, match="math domain error"):
        list(workers.each(_broken_root, NUMBERS, processes=processes))


@pytest.mark.parametrize("processes", [1, 2])
def test_who_has_enough_ends_it(processes: int) -> None:
    start = time.monotonic()
    with closing(workers.each(_slow_root, NUMBERS * 50, processes=processes)) as results:
        assert next(results) in ROOTS
    assert time.monotonic() - start < 20.0
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("processes", [0, -1, 1.5, True, "2", 10**6])
def test_a_number_of_processes_that_cannot_be(processes: Any) -> None:
    with pytest.raises(InputError, match=r"processes=.*: give a whole number from 1 to 1024"):
        workers.each(math.sqrt, NUMBERS, processes=processes)


# on a cluster


def test_on_a_cluster(two: Cluster) -> None:
    before = threading.active_count()
    assert sorted(workers.each(math.sqrt, NUMBERS, cluster=two.address)) == ROOTS
    assert sorted(workers.each(math.sqrt, NUMBERS[:1], cluster=two.address.removeprefix("tcp://"))) == ROOTS[:1]
    assert threading.active_count() <= before + 1  # a pool of threads that copies and hashes for all clients may stay


def test_a_cluster_is_left_as_it_was(two: Cluster) -> None:
    with closing(workers.each(_slow_root, NUMBERS * 50, cluster=two.address)) as results:
        assert next(results) in ROOTS
    assert sorted(workers.each(math.sqrt, NUMBERS, cluster=two.address)) == ROOTS
    with pytest.raises(ValueError, match="math domain error"):
        list(workers.each(_broken_root, NUMBERS, cluster=two.address))
    assert two.known() == 2


def test_workers_that_lack_a_module(two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("def twice(number):\n    return 2 * number\n")
    monkeypatch.syspath_prepend(tmp_path)
    only_here = importlib.import_module("only_here")
    with pytest.raises(InputError, match="workers lack only_here; install the same capsim there"):
        list(workers.each(only_here.twice, NUMBERS, cluster=two.address))


def test_the_loss_of_a_worker_loses_no_task(tmp_path: Path) -> None:
    with cluster(tmp_path, 2) as one:
        results = []
        for result in workers.each(_slow_root, NUMBERS, cluster=one.address):
            results.append(result)
            if len(results) == 5:
                one.kill()
        assert sorted(results) == ROOTS
        assert one.known() == 1


def test_the_loss_of_all_workers_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_DESERTED", 0.5)
    with cluster(tmp_path, 2) as one:
        results = workers.each(_slow_root, NUMBERS, cluster=one.address)
        next(results)
        one.kill(2)
        with pytest.raises(InputError, match=r"cluster='tcp://.*': all workers were lost"):
            list(results)


def test_the_loss_of_the_scheduler_ends_it(tmp_path: Path) -> None:
    with cluster(tmp_path, 1) as one:
        results = workers.each(_slow_root, NUMBERS * 5, cluster=one.address)
        next(results)
        one.scheduler.kill()
        with pytest.raises(InputError, match=r"cluster='tcp://.*': the scheduler was lost"):
            list(results)


def test_a_scheduler_without_workers(tmp_path: Path) -> None:
    with cluster(tmp_path, 0) as one:
        assert "the scheduler has no workers; start some" in _refusal(one.address)


@pytest.mark.parametrize(
    "address",
    ["", "nonsense", "tcp://127.0.0.1:1", "127.0.0.1:99999", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "foo://x", "\0"],
)
def test_no_scheduler_at_the_address(address: str) -> None:
    start = time.monotonic()
    assert f"cluster={address!r}: no scheduler answers; give its address" in _refusal(address)
    assert time.monotonic() - start < 5.0


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["silence", "something else"])
def test_what_listens_is_no_scheduler(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_answers, args=(server, answer))
        thread.start()
        assert "no scheduler answers" in _refusal(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _answers(server: socket.socket, answer: bytes) -> None:
    """Say the same to everybody until the server closes."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            if answer:
                connection.sendall(answer)
            else:
                time.sleep(1.0)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert _refusal("tcp://127.0.0.1:1").endswith("Dask is not installed; pip install 'capsim[cluster]'")


@pytest.mark.parametrize("address", [5, True, b"tcp://127.0.0.1:1", ["tcp://127.0.0.1:1"]])
def test_an_address_that_is_no_text(address: Any) -> None:
    assert "give the address of a Dask scheduler" in _refusal(address)
