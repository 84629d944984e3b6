"""Times decisions of a policy; prints JSON, in microseconds.

Run with ``python benchmarks/bench_policy.py [--sizes 10,100,1000] [--calls N]``. Ten
requested capabilities are decided against documents of 10, 100 and 1000 policies, each
time anew (the memory of decisions is emptied): ``concrete`` asks for ten files,
``patterns`` for eight directories, a domain and a size. ``parse`` reads and validates
the document. ``repeated`` is an equal request again, from memory, as the next run of
the component makes it; its target is a median of at most 20 µs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from uuid import UUID

from omnibase.core.security import policy as policy_module
from omnibase.core.security.capabilities import CapabilitySet, CapabilityType
from omnibase.core.security.conditions import Condition, Test
from omnibase.core.security.decision import PolicyContext
from omnibase.core.security.policy import Policy
from omnibase.core.security.policy_schema import ENTITY_OF
from omnibase.core.security.policy_text import new_policy

COMPONENT = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
CONTEXT = PolicyContext()
READ = CapabilityType.FILE_READ


def document(count: int) -> bytes:
    """Returns a document: nine permits of directories for each forbid inside one."""
    policies = {}
    for i in range(count - 2):
        path = f"/data/set-{i}/" if i % 10 else f"/data/set-{i + 1}/secret/"
        condition: Condition = Test("resource", "path", "like", (path, None))
        effect = "permit" if i % 10 else "forbid"
        policies[f"p{i}"] = new_policy(effect, str(COMPONENT), ENTITY_OF[READ], condition)
    host = Test("resource", "host", "like", (None, ".example.com"))
    size = Test("resource", "bytes", "<=", 1 << 28)
    policies["host"] = new_policy("permit", str(COMPONENT), "NetworkConnect", host)
    policies["size"] = new_policy("permit", str(COMPONENT), "Memory", size)
    whole = {"staticPolicies": policies, "templates": {}, "templateLinks": []}
    return json.dumps(whole).encode()


REQUESTS = {
    "concrete": CapabilitySet.parse(f"FILE_READ:/data/set-{i % 8}/{i}.csv" for i in range(10)),
    "patterns": CapabilitySet.parse(
        [*(f"FILE_READ:/data/set-{i}/**" for i in range(8)),
         "NETWORK_CONNECT:*.example.com:443", "MEMORY:128MiB"]
    ),
}  # fmt: skip


def time_calls(call: Callable[[], object], count: int) -> dict[str, float]:
    """Returns the median and the 99th percentile of one call, in microseconds."""
    call()
    taken = []
    for _ in range(count):
        began = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - began) / 1000)
    taken.sort()
    p99 = taken[min(len(taken) - 1, -(-99 * len(taken) // 100) - 1)]
    return {"median": round(statistics.median(taken), 1), "p99": round(p99, 1)}


def main() -> None:
    """Runs all cases and prints them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="10,100,1000")
    parser.add_argument("--calls", type=int, default=5000, help="of what is remembered")
    options = parser.parse_args()
    results = {}
    for count in map(int, options.sizes.split(",")):
        data = document(count)
        rounds = min(2000 // count + 5, options.calls)

        def parse(data: bytes = data) -> Policy:
            policy_module._policies = policy_module._Recent(policy_module.MAX_CACHED_POLICIES)
            return Policy.parse(data, "bench", COMPONENT)

        results[f"parse_{count}"] = time_calls(parse, rounds)
        policy = parse()
        for name, request in REQUESTS.items():

            def decide(policy: Policy = policy, request: CapabilitySet = request) -> object:
                policy_module._decisions = policy_module._Recent(8)
                return policy.decide(COMPONENT, request, CONTEXT)

            equal = CapabilitySet.parse(map(str, request))

            def again(policy: Policy = policy, request: CapabilitySet = equal) -> object:
                return policy.decide(COMPONENT, request, CONTEXT)

            policy.decide(COMPONENT, request, CONTEXT)

            results[f"{name}_{count}"] = time_calls(decide, rounds)
            results[f"{name}_{count}_repeated"] = time_calls(again, options.calls)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
