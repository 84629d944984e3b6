"""One process of many on a registry: ``python -m tests.helpers.registry_worker``.

    registry_worker.py LOCATION bump UUID TIMES      adds to a counter
    registry_worker.py LOCATION add PREFIX TIMES     adds components
    registry_worker.py LOCATION read UUID            reads until standard input ends
    registry_worker.py LOCATION churn SEED           writes until it is killed

A line on standard output is a write that has returned.
"""

from __future__ import annotations

import hashlib
import random
import select
import sys
from dataclasses import replace
from itertools import count
from uuid import UUID

from omnibase.core.registry import Component, RegistryStore, open_store
from omnibase.errors import RegistryError


def say(component: Component) -> None:
    digest = hashlib.sha256(component.to_json()).hexdigest()
    print(component.uuid, component.revision_number, digest, flush=True)


def bump(store: RegistryStore, uuid: UUID, times: int) -> None:
    """Adds one to the counter in the description, and keeps the policy in step."""
    done = 0
    while done < times:
        current = store.get(uuid)
        try:
            total = int(current.description) + 1
            current = store.update(replace(current, description=str(total)))
            done += 1
            say(current)
            store.put_policy(
                uuid, b'{"total": %d}' % total, expected_version=current.policy_version
            )
        except RegistryError as error:
            if error.details["reason"] != "conflict":
                raise


def add(store: RegistryStore, prefix: str, times: int) -> None:
    for number in range(times):
        made = store.add(Component.new(name=f"{prefix}-{number}", version="1.0.0", owner="worker"))
        say(store.add_script(made.uuid, "main.py", b"print(%d)\n" % number))


def read(store: RegistryStore, uuid: UUID) -> None:
    """Checks that what is seen never goes back and always fits together."""
    total = revision = version = rounds = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        seen = store.get(uuid)
        policy = store.get_policy(uuid)
        assert seen.revision_number >= revision, (seen.revision_number, revision)
        assert int(seen.description) >= total, (seen.description, total)
        assert policy.version >= max(version, seen.policy_version), policy
        revision, total = seen.revision_number, int(seen.description)
        version = policy.version
        if not rounds % 10:
            assert len(store.history(uuid)) >= revision
            assert sum(1 for _ in store.list()) >= 1
            assert (findings := store.verify()) == [], findings
        rounds += 1
    print("rounds", rounds, flush=True)


def churn(store: RegistryStore, seed: str) -> None:
    """Writes of every kind, without end."""
    chance = random.Random(seed)
    mine: list[UUID] = []
    for number in count():
        if not mine or chance.random() < 0.2:
            name = f"churn-{seed}-{number}"
            made = store.add(Component.new(name=name, version="1.0.0", owner="worker"))
            mine.append(made.uuid)
            say(made)
            continue
        current = store.get(chance.choice(mine))
        match chance.randrange(3):
            case 0:
                current = store.update(replace(current, description=f"{number} " * 200))
            case 1:
                current = store.put_policy(
                    current.uuid, b"%d" % number * 500, expected_version=current.policy_version
                )
            case _:
                script = b"print(%d)\n" % number * 500
                current = store.add_script(current.uuid, f"main{number % 3}.py", script)
        say(current)


def main(location: str, what: str, *arguments: str) -> None:
    store = open_store(location)
    match what:
        case "bump":
            bump(store, UUID(arguments[0]), int(arguments[1]))
        case "add":
            add(store, arguments[0], int(arguments[1]))
        case "read":
            read(store, UUID(arguments[0]))
        case "churn":
            churn(store, arguments[0])
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
