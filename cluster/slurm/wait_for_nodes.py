"""Waits until so many nodes have joined the Ray at RAY_ADDRESS, and says which. After five minutes those must do."""

import os
import sys
import time

import ray

SECONDS = 300


def alive() -> list[str]:
    return sorted(node["NodeName"] for node in ray.nodes() if node["Alive"])


def main(wanted: int) -> int:
    ends = time.monotonic() + SECONDS
    while True:
        try:
            ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="ERROR")
            break
        except ConnectionError as error:  # the head is still starting
            if time.monotonic() > ends:
                print(f"slurm: no Ray answers at {os.environ['RAY_ADDRESS']}: {error}")
                return 1
            time.sleep(1)
    while len(names := alive()) < wanted and time.monotonic() < ends:
        time.sleep(1)
    print(f"slurm: Ray on {len(names)} of {wanted} nodes: {', '.join(names)}")
    return 0


sys.exit(main(int(sys.argv[1])))
