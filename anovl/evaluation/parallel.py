"""Run categories in other processes: of this machine (joblib), or of a Dask cluster.

Models and data sets, which all tasks share, are pickled once and loaded once in each process.
Results come back when they are finished; a killed run loses only the unfinished ones.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cloudpickle

from anovl.data.dataset import Dataset
from anovl.detector import Detector
from anovl.evaluation.pairs import run_here
from anovl.evaluation.run_folder import code_of, imports_of

Work = Callable[..., Any]


def run_elsewhere(
    shared: tuple, todo: Mapping[str, Sequence[Detector]], *, jobs: int, dask: str | None
) -> Iterator[dict[str, Any]]:
    """Yield finished pairs, in the order in which other processes finish their categories."""
    _, detectors, _ = shared
    tasks = [(name, [detectors.index(detector) for detector in own]) for name, own in todo.items()]
    if dask is None:
        running = run_with_joblib(run_category, shared, tasks, jobs=jobs)
    else:
        code = partial(code_of, imports_of(detectors))
        running = run_with_dask(run_category, shared, tasks, address=dask, code=code)
    for parts in running:
        yield from parts


def run_category(
    shared: tuple[Dataset, list[Detector], dict[str, Any]], category: str, numbers: Sequence[int]
) -> list[dict[str, Any]]:
    """Run a category in another process; `shared` is the same for all categories."""
    dataset, detectors, options = shared
    parts: dict[str, dict[str, Any]] = {}
    todo = {category: [detectors[number] for number in numbers]}
    run_here(dataset, todo, keep=parts.__setitem__, **options)
    return list(parts.values())


def run_with_joblib(work: Work, shared: Any, tasks: Sequence[tuple], *, jobs: int) -> Iterator[Any]:
    """Yield work(shared, *task) for each task, in the order in which they end.

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
            delayed(_in_process)(own, work, pickled, threads, warnings.filters, task)
            for task in tasks
        )
        results = Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")(calls)
        try:
            for result in results:  # noqa: UP028  (else closing this closes joblib's first, loudly)
                yield result
        except BrokenProcessPool as error:
            raise OSError(
                "a process was killed, perhaps because memory is full; finished pairs are kept: "
                "run the same again to go on, with fewer jobs"
            ) from error
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # some tasks may be left
                results.close()  # stops the processes, also when this generator is given up


def run_with_dask(
    work: Work, shared: Any, tasks: Sequence[tuple], *, address: str, code: Callable[[], str]
) -> Iterator[Any]:
    """Yield work(shared, *task) as `run_with_joblib` does, from workers of a Dask cluster.

    `address` is that of the scheduler; `code` returns the hash of the code that the work depends
    on, here and at a worker. When a worker dies, another worker gets its task; results that were
    sent back are not computed again. Raises ValueError without dask.distributed, or when
    a worker has other code than this process, OSError when nobody answers at `address`, or the
    scheduler is gone before the end. Warns when no worker has joined yet.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ValueError(
            "a Dask cluster needs dask.distributed: pip install -e '.[dask]'"
        ) from None

    pickled = cloudpickle.dumps(shared)
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # errors are raised here
    with Client(address, set_as_default=False) as client:
        if not client.scheduler_info()["workers"]:
            warnings.warn(f"no worker has joined {address} yet; waiting for one", stacklevel=2)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # once, and on purpose
            key = f"anovl-shared-{hashlib.sha256(pickled).hexdigest()[:16]}"
            opened = client.submit(cloudpickle.loads, pickled, key=key)
        submit = partial(client.submit, _on_worker, work, opened, code, code(), pure=False)
        futures = [submit(task) for task in tasks]
        waiting = as_completed(futures, loop=client.loop, with_results=True)
        del futures  # a result that is still needed is made again when its worker dies
        for future, result in waiting:
            if future.cancelled():
                raise OSError(
                    f"the scheduler at {address} is gone; finished pairs are kept: start it and "
                    "its workers again, then run the same again to go on"
                )
            del future
            yield result


def _in_process(
    parent: int, work: Work, pickled: Path, threads: int, filters: list, task: tuple
) -> Any:
    import torch

    _end_with(parent)
    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.filters[:] = filters  # those of the parent
        return work(_opened(pickled), *task)


@lru_cache(maxsize=1)
def _end_with(parent: int) -> None:
    """End this process soon after its parent ends, also when the parent is killed."""

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
