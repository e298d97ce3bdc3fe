"""Who can reach the Ray of a sweep: nobody from outside this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")
import ray

from harness.launch.cluster import connected

pytestmark = pytest.mark.ray
LISTENS = "0A"  # the kernel's name of that state
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")


def listening(session: str) -> Iterator[tuple[str, str]]:
    """(process, address it listens on, in the kernel's digits) of this process and all of a session of Ray's."""
    rows = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    places = {row[9]: row[1].partition(":")[0] for row in rows if row[3] == LISTENS}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            about = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if session.encode() not in about and int(process.name) != os.getpid():
                continue
            sockets = [re.fullmatch(r"socket:\[(\d+)\]", os.readlink(one)) for one in (process / "fd").iterdir()]
        except OSError:  # it has ended, or is somebody else's
            continue
        name = Path(about.partition(b"\0")[0].decode(errors="replace")).name
        yield from ((name, places[one[1]]) for one in sockets if one is not None and one[1] in places)


def test_a_local_ray_listens_on_this_machine_alone() -> None:
    """Protects the person's account from the network: a Ray that can be reached runs whatever it is handed."""
    with connected(None):
        session = ray.get_runtime_context().gcs_address
        folder = ray._private.worker.global_worker.node.get_session_dir_path()
        found = list(listening(Path(folder).name))
        assert session.startswith("127.0.0.1:")
    assert any("gcs_server" in name for name, _ in found), found
    assert any("raylet" in name for name, _ in found), found
    assert {place for _, place in found} <= set(LOOPBACK), found
