"""The same work in many places: processes of this machine (joblib), or a Dask cluster.

What all tasks share, such as models and data sets, is pickled once and opened once in each process.
Results come back as they are finished; what a killed run had not sent back is all that is lost.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cloudpickle

Work = Callable[..., Any]


def run_with_joblib(
    work: Work, shared: Any, tasks: Mapping[str, tuple], *, jobs: int
) -> Iterator[tuple[str, Any]]:
    """Yield (name, work(shared, *task)) for each named task, in the order in which they end.

    `jobs` processes share the cores: torch has cores / jobs threads in each. An error in a task is
    raised here and stops the others. Raises OSError when a process is killed.
    """
    from joblib import Parallel, cpu_count, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    threads = max(1, cpu_count() // jobs)
    with TemporaryDirectory() as folder:
        pickled = Path(folder) / "shared.pickle"
        pickled.write_bytes(cloudpickle.dumps(shared))
        own = os.getpid()
        calls = (
            delayed(_in_process)(own, work, pickled, threads, warnings.filters, name, task)
            for name, task in tasks.items()
        )
        results = Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")(calls)
        try:
            for result in results:  # noqa: UP028  (else closing this closes joblib's first, loudly)
                yield result
        except BrokenProcessPool as error:
            raise OSError(
                "a process was killed, perhaps for want of memory; what is finished is kept: "
                "run the same again to go on, with fewer jobs"
            ) from error
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that something was left to do
                results.close()  # stops the processes, also when this generator is given up


def run_with_dask(
    work: Work,
    shared: Any,
    tasks: Mapping[str, tuple],
    *,
    address: str,
    code: Callable[[], str],
) -> Iterator[tuple[str, Any]]:
    """Yield (name, work(shared, *task)) as `run_with_joblib` does, from workers of a Dask cluster.

    `address` is that of the scheduler; `code` returns the hash of the code that the work depends
    on, here and at a worker. The task of a worker that dies is given to another worker; what was
    sent back already is not done again. Raises ValueError without dask.distributed, or when a
    worker has other code than this process, OSError when nobody answers at `address`, or the
    scheduler is gone before the end. Warns where there is no worker to begin with.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ValueError(
            "a Dask cluster needs dask.distributed: pip install -e '.[dask]'"
        ) from None

    pickled = cloudpickle.dumps(shared)
    with _quiet("distributed.client"), Client(address, set_as_default=False) as client:
        if not client.scheduler_info()["workers"]:
            warnings.warn(f"no worker has joined {address} yet; waiting for one", stacklevel=2)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # once, and on purpose
            key = f"anovl-shared-{hashlib.sha256(pickled).hexdigest()[:16]}"
            opened = client.submit(cloudpickle.loads, pickled, key=key)
        submit = partial(client.submit, _on_worker, work, opened, code, code(), pure=False)
        futures = [submit(task) for task in tasks.values()]
        names = {future.key: name for future, name in zip(futures, tasks, strict=True)}
        waiting = as_completed(futures, loop=client.loop, with_results=True)
        del futures  # a result that is still needed is made again when its worker dies
        for future, result in waiting:
            if future.cancelled():
                raise OSError(
                    f"the scheduler at {address} is gone; what is finished is kept: start it and "
                    "its workers again, then run the same again to go on"
                )
            name = names[future.key]
            del future
            yield name, result


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a logger from printing tracebacks of what is said here in a sentence."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _in_process(
    parent: int, work: Work, pickled: Path, threads: int, filters: list, name: str, task: tuple
) -> tuple[str, Any]:
    import torch

    _end_with(parent)
    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.filters[:] = filters  # what is silent here is silent there
        return name, work(_opened(pickled), *task)


@lru_cache(maxsize=1)
def _end_with(parent: int) -> None:
    """End this process soon after the one that started it: a killed one cannot say so."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@lru_cache(maxsize=1)
def _opened(pickled: Path) -> Any:
    return cloudpickle.loads(pickled.read_bytes())


def _on_worker(work: Work, shared: Any, code: Callable[[], str], expected: str, task: tuple) -> Any:
    if code() != expected:
        raise ValueError("a Dask worker has another version of anovl than this process")
    return work(shared, *task)
