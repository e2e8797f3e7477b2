"""A Ray cluster: one that runs already, or one of this machine that ends with the program."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import config
import utils

OBJECT_STORE_BYTES = 256 * 2**20
"""Memory that a local cluster holds names and counts in."""
CONNECT_SECONDS, STARTS = 5.0, 2
"""s until a cluster must answer; how often starting one is tried."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing leaves the machine
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",  # else by 15: on a busy machine it would wait for ever
}
TOKENS = "if the cluster asks for a token, set RAY_AUTH_MODE=token, else RAY_AUTH_MODE=disabled"


def import_ray() -> Any:
    """The package, told to be quiet and to report nothing.

    Raises
    ------
    UserError : it is not installed
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data  # also there without what it needs
    except ImportError as error:
        raise config.UserError(
            f"--engine ray needs Ray ({error}): pip install -r requirements-ray.txt; "
            "--engine local does without"
        ) from None
    return ray


@contextlib.contextmanager
def cluster(ray: Any, address: str, workers: int) -> Iterator[int]:
    """Join a running cluster, or start one here that ends with this; gives the number of actors.

    Raises
    ------
    UserError : no cluster at the address
    """
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    before, place = signal.getsignal(signal.SIGTERM), ""
    try:
        if address:
            _join(ray, address, quiet)
        else:
            place = tempfile.mkdtemp(prefix="ray-")  # short: sockets have short names
            _start(ray, place, workers or utils.available_cores(), quiet)
        signal.signal(signal.SIGTERM, before)  # Ray's own ends without tidying up
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield min(workers or cores, cores)
    finally:
        ray.shutdown()
        if place:
            shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _stderr_held() -> Iterator[None]:
    """Nobody sees what Ray's C++ part says as it starts: that it was told to be quiet."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _start(ray: Any, place: str, cores: int, quiet: dict[str, Any]) -> None:
    """Start a cluster here; on a busy machine Ray may give up waiting for itself, so twice."""
    for attempt in range(STARTS):
        try:
            with _stderr_held():
                ray.init(
                    address="local",
                    num_cpus=cores,
                    object_store_memory=OBJECT_STORE_BYTES,
                    include_dashboard=False,
                    _temp_dir=place,
                    **quiet,
                )
            return
        except Exception as error:  # Ray raises just that
            ray.shutdown()
            if attempt == STARTS - 1:
                raise config.UserError(f"Ray does not start: {error}") from None


def _join(ray: Any, address: str, quiet: dict[str, Any]) -> None:
    absent = config.UserError(
        f"no Ray cluster at {address}: start one with ray start --head, or leave --ray-address out"
    )
    host, _, port = address.rpartition("://")[2].partition(":")
    if address != "auto":  # Ray itself would try for a minute, and then end the process
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, ValueError):
            raise absent from None
    try:
        with _stderr_held():
            ray.init(address=address, **quiet)
    except ConnectionError:
        raise config.UserError(f"{absent} ({TOKENS})") from None
    except Exception as error:  # Ray raises just that
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise config.UserError(f"Ray cluster at {address}: {said[0]}") from None
