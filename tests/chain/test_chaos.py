"""One fault of each kind on a real sweep; `make chaos` has more runs and more of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import KINDS, Chaos, drawn
from disturbed import Fault
from postgres import WITHOUT, find_postgres

pytestmark = [pytest.mark.chain, pytest.mark.ray]


@pytest.mark.timeout(900)
@pytest.mark.skipif(find_postgres() is None, reason=WITHOUT)
def test_a_sweep_survives(tmp_path: Path) -> None:
    """PostgreSQL, MLflow's server, a training process and the driver die; nothing tells this sweep from a quiet one."""
    said: list[str] = []
    chaos = Chaos(tmp_path, said.append, cells={"byol": {}}, epochs=12)
    faults = [
        Fault("postgres", 0.05, 2.0),
        Fault("server", 0.3, 2.0),
        Fault("worker", 0.4, 0.0),
        Fault("driver", 0.6, 0.0),
    ]
    chaos.suffer(0, faults)
    assert sum("SIGKILL" in line for line in said) == len(faults)
    assert said[-1] == "seed 0: 4 faults survived"


def test_faults_are_those_of_the_seed() -> None:
    """Protects a failure from being one that nobody sees again, and a kind from never being drawn."""
    for seed in range(20):
        faults = drawn(seed)
        assert faults == drawn(seed)
        assert {fault.kind for fault in faults} == set(KINDS)
        shares = [fault.share for fault in faults]
        assert shares == sorted(shares)
        assert 0 <= shares[0] < shares[-1] < 0.9
        assert all((fault.down_s > 0) == (fault.kind in ("server", "postgres")) for fault in faults)
    assert drawn(0) != drawn(1)
