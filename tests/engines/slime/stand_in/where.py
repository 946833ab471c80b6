"""A job that runs a task on each of N nodes at once, and prints where they ran: `where.py N`."""

from __future__ import annotations

import sys

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


@ray.remote(num_cpus=0.1)
def where() -> str:
    return ray.util.get_node_ip_address()


def main() -> None:
    count = int(sys.argv[1])
    ray.init()
    group = placement_group([{"CPU": 0.1}] * count, strategy="STRICT_SPREAD")  # each on a node of its own
    ray.get(group.ready(), timeout=600)
    tasks = [
        where.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, place)).remote()
        for place in range(count)
    ]
    print("ran on", *sorted(ray.get(tasks)))


if __name__ == "__main__":
    main()
