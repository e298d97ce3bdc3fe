"""Reaching Ray: a cluster at an address, or a local one made for this sweep."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

# Read by Ray at import: no usage reports, none of its tables on the screen, results as they come.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402  # after the environment it reads
from ray._private import ray_constants  # noqa: E402

from harness.config.errors import ConfigError  # noqa: E402
from harness.config.masked import masked  # noqa: E402
from harness.data.threads import cores  # noqa: E402
from harness.launch.nodes import check_alike, living, shipped  # noqa: E402

CONNECT_SECONDS = 5.0
ATTEMPTS = 3
OBJECT_STORE_BYTES = 100 * 2**20  # nothing of size passes through Ray: runs read and write files


@contextmanager
def connected(address: str | None) -> Iterator[list[dict[str, float]]]:
    """A Ray to work with; yields the resources of each of its nodes. A local one ends with the block.

    The nodes of a cluster run this process's own code, and what else it rests on must be alike.
    """
    with joined(address):
        if address is not None and address != "local":
            check_alike()
        yield list(living().values())


@contextmanager
def joined(address: str | None) -> Iterator[None]:
    """The same, whatever its nodes are."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a failed run is told by its record, in one line
    ray._private.worker._worker_logs_enabled = False  # a dead node is told by the frontier, not in a paragraph of Ray's
    if address is None or address == "local":
        _start()
    else:
        _check_reachable(address)
        try:
            environment = {name: os.environ[name] for name in SETTINGS}  # a local Ray inherits it, a cluster does not
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={"env_vars": environment} | shipped(),
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"RAY_ADDRESS={masked(address)}: {str(error).splitlines()[0]}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _start() -> None:
    """A Ray of our own. It gives itself 30 s, which is too little where the machine is busy with something else."""
    for attempt in range(ATTEMPTS):
        try:
            ray_constants.ENABLE_RAY_CLUSTER = False  # on Linux, Ray's only way to listen on this machine alone
            ray.init(
                address="local",
                num_cpus=cores(),
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
            return
        except Exception as error:
            ray.shutdown()
            if "timed out during startup" not in str(error):  # Ray has no kind of its own for it
                raise
            if attempt == ATTEMPTS - 1:
                problem = f"Ray did not start here in {ATTEMPTS} attempts of 30 s: the machine is too busy"
                raise ConfigError(f"{problem}; give the same command again") from None
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = True


def _check_reachable(address: str) -> None:
    """Ray waits long for an address nobody answers at; this asks first."""
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise ConfigError(
            f"RAY_ADDRESS={masked(address)}: Ray's client drives no sweep; give the head's own host:port, as :6379"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"RAY_ADDRESS={masked(address)}: must be host:port, auto or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        remedy = "start one, or unset RAY_ADDRESS for a local one"
        raise ConfigError(f"RAY_ADDRESS={masked(address)}: no Ray answers there ({error}); {remedy}") from None
