"""An agent's loop: a model writes code, and asks for what the code may do.

    python examples/agent/loop.py              # asks you, on the terminal
    python examples/agent/loop.py --answer yes # for scripts

Each turn the model replies with one of three things: a block of Python, which runs
in a sandbox with what was granted so far; ``REQUEST CAPABILITY because REASON``; or
``DONE ANSWER``. A request goes to the policy first, and what that permits to a human.
The model here is a recording, so that this runs without a network; anything with
``reply(messages) -> str`` takes its place.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import omnibase
from omnibase.core.security.decision import PolicyContext
from omnibase.core.security.policy import Policy

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "data"
TASK = f"Which was the best month, and who earns most? The figures are in {DATA}."
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
REQUEST = re.compile(r"REQUEST (\S+) because (.+)")
MAX_TURNS = 12


class Model(Protocol):
    """What writes the code."""

    def reply(self, messages: list[dict[str, str]]) -> str:
        """Returns the next message, given all so far (``role`` and ``content``)."""
        ...


class RecordedModel:
    """Says what was recorded, each turn once, after hearing what it heard then."""

    def __init__(self, path: Path, **values: str) -> None:
        text = path.read_text(encoding="utf-8")
        for name, value in values.items():
            text = text.replace("{" + name + "}", value)
        self._turns: list[dict[str, str]] = json.loads(text)

    def reply(self, messages: list[dict[str, str]]) -> str:
        """See `Model`."""
        heard = messages[-1]["content"]
        for turn in self._turns:
            if turn["after"] in heard:
                self._turns.remove(turn)
                return turn["reply"]
        raise RuntimeError(f"nothing was recorded after {heard!r}")


def ask_on_terminal(capability: str, reason: str) -> bool:
    """Asks whoever sits there; what the model wrote cannot drive the terminal."""
    print(f"  the agent asks for {ascii(capability)[1:-1]}: {ascii(reason)[1:-1]}")
    return input("  allow it? [y/N] ").strip().lower() in ("y", "yes")


def always(answer: bool) -> Callable[[str, str], bool]:
    """Returns a human who says the same to everything."""
    return lambda capability, reason: answer


class Authority:
    """Decides what the agent gets: a policy, and then a human."""

    def __init__(self, cedar: Path, human: Callable[[str, str], bool], **values: str) -> None:
        self._uuid = uuid4()
        text = cedar.read_text(encoding="utf-8").replace("UUID", str(self._uuid))
        for name, value in values.items():
            text = text.replace(name, value)
        self._policy = Policy.from_cedar(text, cedar.name, self._uuid)
        self._human = human
        self.granted = omnibase.CapabilitySet.parse([])

    def request(self, text: str, reason: str) -> str:
        """Grants or refuses one capability, and returns what to tell the model."""
        try:
            wanted = omnibase.CapabilitySet.parse([text])
        except omnibase.CapabilityError as error:
            return f"refused: {error.message}"
        decision = self._policy.decide(self._uuid, wanted, PolicyContext())
        if decision.denied:
            return f"refused: {decision.denied[0].message}"
        if not self._human(text, reason):
            return f"refused: a human said no to {text}"
        self.granted = omnibase.CapabilitySet.parse([*map(str, self.granted), text])
        return f"granted: {text}"


def execute(code: str, granted: omnibase.CapabilitySet) -> str:
    """Runs the model's code, and returns what to tell the model."""
    try:
        result = omnibase.run(code, capabilities=granted)
    except omnibase.SandboxViolationError as error:
        said = error.result.stdout.decode(errors="replace")
        denied = [str(found.capability or found.operation) for found in error.violations]
        return said + "".join(f"denied: {name}\n" for name in denied)
    except (omnibase.ResourceLimitExceeded, omnibase.SandboxTimeout) as error:
        return f"ended: {error.message}"
    return (result.stdout + result.stderr).decode(errors="replace")


def converse(model: Model, authority: Authority, task: str, show: Callable[[str], object]) -> str:
    """Goes round until the model is done, and returns its answer.

    Raises:
        RuntimeError: It was not done after `MAX_TURNS`.
    """
    messages = [{"role": "user", "content": task}]
    for _ in range(MAX_TURNS):
        reply = model.reply(messages)
        messages.append({"role": "assistant", "content": reply})
        if reply.startswith("DONE "):
            show(f"agent    {reply.removeprefix('DONE ')}")
            return reply.removeprefix("DONE ")
        if code := CODE.search(reply):
            show(f"agent    runs {len(code[1].splitlines())} lines of Python")
            told = execute(code[1], authority.granted)
        elif asked := REQUEST.match(reply):
            show(f"agent    asks for {asked[1]}: {asked[2]}")
            told = authority.request(asked[1], asked[2])
        else:
            told = "reply with a block of Python, REQUEST … because …, or DONE …"
        for line in told.splitlines():
            show(f"sandbox  {line}" if code else f"answer   {line}")
        messages.append({"role": "user", "content": told})
    raise RuntimeError(f"the model was not done after {MAX_TURNS} turns")


def main(arguments: list[str] | None = None) -> int:
    """Runs the conversation."""
    parser = argparse.ArgumentParser(description="An agent's loop, with a recorded model.")
    parser.add_argument("--answer", choices=("yes", "no"), help="what the human says; else you")
    options = parser.parse_args(arguments)
    human = always(options.answer == "yes") if options.answer else ask_on_terminal
    authority = Authority(HERE / "policy.cedar", human, DATA=str(DATA))
    model = RecordedModel(HERE / "transcript.json", data=str(DATA))
    print(f"task     {TASK}")
    try:
        converse(model, authority, TASK, lambda line: print(plain(line)))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def plain(text: str) -> str:
    """Returns text of the model's or the script's making, fit for a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


if __name__ == "__main__":
    sys.exit(main())
