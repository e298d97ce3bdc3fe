"""Reaching Ray: what cannot work is said in seconds, in one sentence."""

from __future__ import annotations

import socket
import time

import pytest

from harness.config.errors import ConfigError

pytest.importorskip("ray")
from harness.launch import cluster
from harness.launch.cluster import connected


def test_an_address_without_ray_is_said_at_once() -> None:
    """Ray itself would try for minutes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # bound, but nobody listens
        started = time.monotonic()
        with pytest.raises(ConfigError, match="no Ray answers there"), connected(address):
            pass
        assert time.monotonic() - started < cluster.CONNECT_SECONDS + 1


def test_an_address_that_swallows_packets_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall answers nothing: the attempt has its few seconds, and their end is said as any other refusal."""
    tried: list[tuple[object, float]] = []

    def swallowed(address: object, timeout: float) -> None:
        tried.append((address, timeout))
        raise TimeoutError("timed out")

    monkeypatch.setattr(cluster.socket, "create_connection", swallowed)
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS=head:6379: no Ray answers there"), connected("head:6379"):
        pass
    assert tried == [(("head", 6379), cluster.CONNECT_SECONDS)]
    assert cluster.CONNECT_SECONDS <= 6


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:port"])
def test_a_malformed_address_is_explained(address: str) -> None:
    """What forms there are, instead of Ray's own error."""
    with pytest.raises(ConfigError, match="must be host:port"), connected(address):
        pass


def test_ray_s_client_is_refused() -> None:
    """The sweep would run in a process of the cluster, without the terminal and the signals of this one."""
    refusal = r"ray://\*\*\*@head:10001: Ray's client drives no sweep; give the head's own host:port"
    with pytest.raises(ConfigError, match=refusal), connected("ray://user:secret@head:10001"):
        pass


@pytest.mark.parametrize("busy", [1, cluster.ATTEMPTS])
def test_a_slow_start_is_tried_again(busy: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine Ray gives up on itself after 30 s; the next attempt may do, and the last one's end is told."""
    begun: list[str] = []

    def init(address: str, **_options: object) -> None:
        begun.append(address)
        if len(begun) <= busy:
            raise Exception("The current node timed out during startup. This could happen")  # as Ray does

    monkeypatch.setattr(cluster.ray, "init", init)
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: None)
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [{"NodeID": "one", "Alive": True, "Resources": {"CPU": 2.0}}])
    if busy == cluster.ATTEMPTS:
        with pytest.raises(ConfigError, match="too busy; give the same command again"), connected(None):
            pass
    else:
        with connected(None) as nodes:
            assert nodes == [{"CPU": 2.0}]
    assert begun == ["local"] * min(busy + 1, cluster.ATTEMPTS)


def test_another_failure_of_ray_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waiting does not cure is raised as it is."""
    monkeypatch.setattr(cluster.ray, "init", lambda **_options: (_ for _ in ()).throw(OSError("no sockets left")))
    with pytest.raises(OSError, match="no sockets left"), connected(None):
        pass
