"""``omnibase sandbox explain``: the dry run."""

from __future__ import annotations

import errno
import hashlib
import json
import shlex
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits
from omnibase.cli.options import add_run_options, read_inputs, read_script

if TYPE_CHECKING:
    from omnibase.call import Plan
    from omnibase.cli.commands import Invocation, Parser
    from omnibase.core.sandbox.spec import SandboxSpec

__all__ = ["add_arguments", "describe", "execute", "rows", "section", "show", "tell_problems"]

_EPILOG: Final = """\
Nothing of the script runs. The files that the grants name are looked up as a run
would; what is missing is listed, and the exit code is 2 then.

examples:
  omnibase sandbox explain script.py --capabilities caps.json
  omnibase sandbox explain script.py --allow 'FILE_READ:/data/*.csv' --memory 128MiB
  omnibase sandbox explain script.py --json
  omnibase sandbox explain script.py --oci > config.json\
"""

_SCRATCH: Final = "/tmp"  # noqa: S108 - the guest's


def add_arguments(parser: Parser, _name: str) -> None:
    """Declares the flags."""
    add_run_options(parser)
    parser.add_argument(
        "--oci", action="store_true", help="print the OCI config.json that runsc would get"
    )
    parser.epilog = _EPILOG


def execute(invocation: Invocation) -> int:
    """Prints the plan; 2 if the run would be refused as things stand."""
    options = invocation.options
    inputs = read_inputs(options, invocation.rest, dry=True)
    script = read_script(options)
    from omnibase import api
    from omnibase.cli.engine import await_image

    await_image()
    plan = api.plan(script, **inputs.keywords())
    document = describe(plan)
    if inputs.packages is not None and document["packages"]["layer"] is None:
        command = shlex.join(["omnibase", "packages", "install", inputs.packages])
        text = "omnibase: note: a run would fetch its packages first; to do that now:"
        console.note(f"{text} `{console.printable(command)}`")
    if getattr(options, "oci", False):
        console.out(json.dumps(document["oci"], indent=2) + "\n")
    elif options.json:
        console.out(json.dumps(document, indent=2) + "\n")
    else:
        show(document)
    return tell_problems(document)


def tell_problems(document: dict[str, Any]) -> int:
    """Prints what would keep a run from starting; returns the exit code."""
    for problem in document["problems"]:
        console.error(problem["message"], problem["hint"])
    return exits.USAGE if document["problems"] else exits.OK


def describe(plan: Plan) -> dict[str, Any]:
    """Returns the plan as JSON-ready data, the mounts looked up."""
    from dataclasses import replace

    from omnibase.cli.enforce import unresolved
    from omnibase.core.sandbox import bundle, covers, resolving
    from omnibase.core.sandbox.commands import finding, layout
    from omnibase.core.sandbox.monitor.reads import ARTIFACTS, SECRETS
    from omnibase.core.sandbox.monitor.registry import REGISTRY
    from omnibase.core.sandbox.syscalls import NATIVE
    from omnibase.errors import CapabilityError

    request, spec = plan.request, plan.request.spec
    problems = [{"capability": name, **error.to_dict()} for name, error in unresolved(spec)]
    broken = {problem["capability"] for problem in problems}
    problems += [{"capability": n, **error.to_dict()} for n, error in plan.problems.items()]
    sound = replace(spec, files=tuple(f for f in spec.files if f.capability not in broken))
    mounts: list[dict[str, Any]] = []
    attached = {one.target: one.source for one in spec.attached}
    try:
        with resolving.resolve_grants(sound) as found:
            mounts = [
                {
                    "source": attached.get(mount.path, mount.path),
                    "target": mount.path,
                    "mode": "rw" if mount.writable else "ro",
                    "kind": "directory" if mount.is_directory else "file",
                    "capability": "packages" if mount.path in attached else mount.capability,
                }
                for mount in found
            ]
            mounts += [
                {
                    "source": "a copy, made at the start",
                    "target": database.path,
                    "mode": "ro",
                    "kind": "database",
                    "capability": database.capability,
                }
                for database in spec.databases
            ]
            mounts += [
                {
                    "source": "a checked copy, made at the start",
                    "target": f"{ARTIFACTS}/{name}",
                    "mode": "ro",
                    "kind": "artifact",
                    "capability": "ARTIFACT_READ",
                }
                for name in request.artifacts
            ]
            mounts += [
                {
                    "source": "files made of the registry at the start",
                    "target": f"{REGISTRY}/{grant.pattern}",
                    "mode": "ro",
                    "kind": "component",
                    "capability": grant.capability,
                }
                for grant in spec.registry
            ]
            mounts += [
                {
                    "source": f"scratch, collected at the end: at most {outlet.max_files} files, "
                    f"{console.size(outlet.max_bytes)}",
                    "target": outlet.path,
                    "mode": "rw",
                    "kind": "outlet",
                    "capability": outlet.capability,
                }
                for outlet in spec.outlets
            ]
            covers.resolve_masks(sound, found)
    except CapabilityError as error:  # each can be mounted, but not all together
        problems.append({"capability": error.details.get("capability"), **error.to_dict()})
    staged = spec.files or spec.databases or spec.artifacts or spec.registry
    oci = bundle.oci_config(
        spec,
        scratch_dir="RUN/scratch",
        commands_dir="STATE/commands/LAYER" if spec.commands else None,
        grants_dir="RUN/grants" if staged else None,
    )
    filtered: dict[tuple[str, bool], list[str]] = {}
    for rule in spec.seccomp:
        ending = "ends the thread" if rule.errno is None else errno.errorcode[rule.errno]
        names = filtered.setdefault((ending, bool(rule.args)), [])
        names += [name for name in rule.names if name not in names]
    return {
        "script": {
            "name": request.name,
            "bytes": len(request.script),
            "sha256": hashlib.sha256(request.script).hexdigest(),
            "args": list(request.argv),
            "stdin_bytes": len(request.stdin),
        },
        "image": {
            "path": spec.image_path, "sha256": spec.image_digest, "python": spec.python,
        },
        "grants": dict(plan.enforcement),
        "packages": {"layer": spec.layer, "imports": list(spec.imports)},
        "mounts": mounts,
        "masks": [{"path": mask.path, "reason": mask.reason} for mask in spec.masks],
        "secrets": [f"{SECRETS}/{name}" for name in spec.secrets],
        "commands": [
            {"name": name, "file": finding.outlook(name), "target": f"{layout.BIN}/{name}"}
            for name in spec.commands
        ],
        "network": _network(spec),
        "syscalls": {
            "refused_by_kernel": sorted(NATIVE.values()),
            "filtered": [
                {"names": names, "answer": ending, "with_certain_arguments_only": limited}
                for (ending, limited), names in filtered.items()
            ],
            "others": "allowed: they reach the guest's kernel, never the host's",
        },
        "quotas": {
            "memory_bytes": spec.memory_bytes,
            "cpus": spec.cpus,
            "pids": spec.pids,
            "wall_seconds": spec.wall_seconds,
            "cpu_seconds": spec.cpu_seconds,
            "output_bytes": spec.output_bytes,
            "scratch_bytes": spec.scratch_bytes,
        },
        "on_output_limit": "truncate" if spec.truncate_output else "raise",
        "kill_on_violation": spec.kill_on_violation,
        "environment": dict(spec.environment),
        "problems": problems,
        "oci": oci,
    }  # fmt: skip


def _network(spec: SandboxSpec) -> str:
    if not spec.egress:
        return "none: no interface but the guest's own loopback"
    limits = spec.egress_limits
    return (
        "brokered: no interface but the guest's own loopback, where what is granted is served "
        f"and passed to the host; for each grant {limits.at_once} connections at once, "
        f"{console.size(limits.total_bytes)} in all, {limits.idle_seconds:g} s idle"
    )


def show(plan: dict[str, Any]) -> None:
    """Prints a plan for people."""
    script, image, quotas = plan["script"], plan["image"], plan["quotas"]
    section("script")
    rows(
        ("name", f"{script['name']}, {console.size(script['bytes'])}"),
        ("sha256", script["sha256"]),
        ("arguments", " ".join(map(repr, script["args"])) or "none"),
        ("python", image["python"]),
        ("image", f"sha256:{image['sha256']}"),
    )
    section("grants, and how each is enforced")
    rows(*plan["grants"].items()) if plan["grants"] else rows(("none", "no file, no network, "
        "no command, no secret"))  # fmt: skip
    if plan["packages"]["imports"]:
        section("packages (importable, last in sys.path)")
        layer = plan["packages"]["layer"]
        kinds = [f"sha256:{layer}"] if layer else []
        kinds += ["a virtual environment"]
        rows(*zip(plan["packages"]["imports"], kinds, strict=False))
    section("mounts (source -> target)")
    rows(
        *(
            (f"{m['mode']} {m['kind']}", f"{m['source']} -> {m['target']}   ({m['capability']})")
            for m in plan["mounts"]
        ),
        ("rw scratch", f"{_SCRATCH}, {console.size(quotas['scratch_bytes'])}, noexec, not kept"),
    )
    if plan["masks"]:
        section("masks (nothing of it can be seen)")
        rows(*((mask["path"], mask["reason"]) for mask in plan["masks"]))
    if plan["secrets"]:
        section("secrets (each a file for the script's user alone; kept out of its output)")
        rows(*(("ro file", path) for path in plan["secrets"]))
    if plan["commands"]:
        section("commands (file and target, with the libraries that it loads)")
        for command in plan["commands"]:
            file = command["file"] or "missing"
            rows((command["name"], f"{file} -> {command['target']}"))
    section("network")
    kind, _, text = plan["network"].partition(": ")
    rows((kind, text))
    section("system calls that are refused and reported")
    native = plan["syscalls"]["refused_by_kernel"]
    rows(("by the kernel", f"{len(native)}: " + ", ".join(native)))
    for rule in plan["syscalls"]["filtered"]:
        limited = ", with certain arguments" if rule["with_certain_arguments_only"] else ""
        rows((f"by seccomp ({rule['answer']})", ", ".join(rule["names"]) + limited))
    section("limits")
    cpu = quotas["cpu_seconds"]
    rows(
        ("memory", f"{console.size(quotas['memory_bytes'])}, interpreter and Sentry included"),
        ("CPUs", f"{quotas['cpus']:g}"),
        ("processes", str(quotas["pids"])),
        ("time", f"{quotas['wall_seconds']:g} s"),
        ("CPU time", "no bound of its own" if cpu is None else f"{cpu:g} s"),
        ("output", f"{console.size(quotas['output_bytes'])}, then {plan['on_output_limit']}"),
        ("scratch", console.size(quotas["scratch_bytes"])),
    )
    section("environment")
    rows(*plan["environment"].items())


def section(title: str) -> None:
    """Prints a heading."""
    console.out(console.colour("bold", title, 1) + "\n")


def rows(*pairs: tuple[str, str]) -> None:
    """Prints names and values, aligned."""
    width = min(44, max(len(name) for name, _ in pairs))
    for name, value in pairs:
        name, value = console.printable(name), console.printable(value, 4000)
        console.out(f"  {name:<{width}}  {value}\n")
