"""What is wrong with a policy in Cedar's own syntax: the place, and what to write instead."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest

from omnibase.cli.stores import read_policy
from omnibase.core.security import policy_syntax
from omnibase.core.security.policy import Policy
from omnibase.core.security.policy_refusals import in_cedar
from omnibase.core.security.policy_schema import ATTRIBUTES
from omnibase.core.security.policy_text import json_of
from omnibase.errors import PolicyError
from tests.helpers.policies import COMPONENT

OTHER = UUID(int=7)
P = f'permit(principal == Component::"{COMPONENT}", action == Action::"use", resource is FileRead)'
MEMORY, NETWORK = (P.replace("FileRead", one) for one in ("Memory", "NetworkConnect"))
GOOD = f'// it\'s; "fine"\n@id("good;")\n{P}\nwhen {{ resource.path like "/a/*" }};\n\n'.replace(
    "good;", "good"
)
HEAD = 'permit(principal == Component::"<uuid>", action == Action::"use", resource is FileRead)'
MANY = " || ".join(f'resource.path == "/{i}"' for i in range(70))
DEEP = '!(resource.path == "/a" && ' * 15 + 'resource.path == "/b"' + ")" * 15


def refusal(path: Path, text: str, principal: UUID | None = None) -> PolicyError:
    path.write_text(text)
    with pytest.raises(PolicyError) as caught:
        read_policy(str(path), principal)
    return caught.value


# `¦` marks the place that is told.
SLIPS = [
    ("¦# about\nP;", "`#` begins no comment", "comments begin with `//`"),
    ("P when { resource.path == ¦'/x' };", "texts are in double quotes", 'write `"…"`'),
    ("P when { resource.path == ¦\u201c/x\u201d };", "texts are in double quotes", 'write `"…"`'),
    ("P when { resource.path ¦= \"/x\" };", "`=` compares nothing", "write `==`"),
    ("P when { resource.path == \"/x\" ¦and resource.path == \"/y\" };", "`and` is no operator", "write `&&`"),
    ("P when { resource.path == \"/x\" ¦OR resource.path == \"/y\" };", "`OR` is no operator", "write `||`"),
    ("P when { ¦not resource.path == \"/x\" };", "`not` is no operator", "write `!(…)`"),
    ("P when { resource.path == \"/x\" ¦& resource.path == \"/y\" };", "`&` joins nothing", "write `&&`"),
    ("P when { resource.path == \"/x\" ¦| resource.path == \"/y\" };", "`|` joins nothing", "write `||`"),
    ("M when { resource.bytes <= ¦128MiB };", "`128MiB` is not a number", "sizes are in bytes: write `134217728`"),
    ("M when { resource.bytes <= ¦1e5 };", "`1e5` is not a number", "write digits alone"),
    ("P\nwhen { resource.path == \"/x\" ¦}", "there is no `;` at the end", "a policy ends with `;`"),
    ("P\nwhen { resource.path == \"/x\" } // done\n\n@id(\"q\")\nP;", "the policy before has no `;`", "a policy ends with `;`"),
    ("P¦)", "`)` closes nothing", "remove it"),
    ("P when { resource.path == \"/x\" } ¦};", "`}` closes nothing", "remove it"),
    ("P when {\n  resource.path == \"/x\" ¦;", "`{` of line 6 is not closed before `;`", "close it, or remove it"),
    ("P when { (resource.path == \"/x\" ¦};", "`(` of line 6 is not closed before `}`", "close it, or remove it"),
    ("permit¦(", "`(` is not closed", "close it, or remove it"),
    ("P when { resource.path == ¦\"/x };", "a text does not end", "close the quotes"),
    ("permit(principal == ¦?principal, action, resource);", "a template is not allowed", "one policy for each component"),
    ("permit(principal ¦in Group::\"x\", action, resource);", "`in` is not allowed", f"write `{HEAD}`"),
    ("P when { resource.path ¦in [\"/a\", \"/b\"] };", "`in` is not allowed", "compare one by one, joined by `||`"),
    ("P when { [\"/a\"].¦contains(resource.path) };", "`contains` is not allowed", "compare one by one, joined by `||`"),
    ("P when { resource.path¦.containsAny([\"/a\"]) };", "the method `containsAny`", "compare one by one"),
    ("P when { resource.isEmpty¦() };", "the method `isEmpty`", "compare the attribute itself"),
    ("P when { resource.path¦.name == \"/a\" };", "an attribute has no attributes", "write e.g. `resource.path`"),
    ("P when { resource ¦has path };", "`has` is not allowed", "leave it out"),
    ("P when { ¦if true then true else false };", "`if` is not allowed", "write `&&` and `||`"),
]  # fmt: skip
SYNTAX = [
    ("P when { resource.path == \"/x\" && ¦};", "unexpected token `}`", "something is missing before `}`"),
    ("P when { (resource.path == \"}\" && ¦) };", "unexpected token `)`", "something is missing before `)`"),
    ("P when ¦resource.path == \"/x\";", "unexpected token `resource`", "write `when { … }`"),
    ("P unless ¦resource.path == \"/x\";", "unexpected token `resource`", "write `unless { … }`"),
    ("P when { resource.path == \"/x\" ¦\"a;b\" };", "unexpected token", "a policy is `permit("),
    ("¦;", "unexpected token `;`", "a policy is `permit("),
    ("P when { resource.path == ¦$x };", "invalid token", "a policy is `permit("),
    ("¦hello", "unexpected end of input", "a policy is `permit("),
    ("@id(¦x)\nP;", "unexpected token `x`", 'write an annotation like `@id("data")`'),
    ("@reason ¦\"x\"\nP;", "unexpected token", 'write an annotation like `@id("data")`'),
    ("@¦id(\"a\") @id(\"b\")\nP;", "duplicate annotation: @id", "keep one of the two"),
    ("@id(\"permti\")\n¦permti(principal, action, resource);", "invalid policy effect: permti", "write `permit` or `forbid`"),
    ("P ¦while { true };", "invalid policy condition: while", "write `when { … }`"),
    ("P when { resource.path == \"/a\" || ¦path == \"/x\" };", "invalid variable: path", "write `resource.path`"),
    ("P when { ¦trust == \"trusted\" };", "invalid variable: trust", "write `context.trust`"),
    ("P when { ¦file == \"/x\" };", "invalid variable: file", "write e.g. `resource.path`"),
    ("¦P when { a::b == 1 };", "invalid variable: a::b", "write e.g. `resource.path`"),
    ("P when { resource.path ¦like resource.path };", "right hand side of a `like`", 'e.g. `like "/data/*"`'),
    ("¦P when { resource.path like \"/a\" || resource.path like 1 };", "right hand side of a `like`", 'e.g. `like "/data/*"`'),
    ("P when { resource.path == ¦\"\\q\" };", "`\\q` is not a valid escape", "`\\\\` for a backslash"),
    ("M when { resource.bytes <= ¦99999999999999999999 };", "integer parse error", "write a smaller number"),
    ("¦permit(principal, action);", "missing the `resource` variable", f"write `{HEAD}`"),
    ("permit(¦action, principal, resource);", "found the variable `action`", f"write `{HEAD}`"),
    ("permit(principal == ¦\"x\", action, resource);", "expected an entity uid", f"write `{HEAD}`"),
    ("permit(principal == ¦Component, action, resource);", "expected an entity uid", f"write `{HEAD}`"),
    ("¦P when { resource.path == \"/x\" == true };", "multiple relational operators", "join two comparisons with `&&` or `||`"),
]  # fmt: skip
ALL_TYPES = "the types are " + ", ".join(f"`{one}`" for one in ATTRIBUTES)
IS_COMPONENT = f'`principal == Component::"{COMPONENT}"`'
MEANING = [
    ("permit(¦principal, action, resource);", "`principal` alone stands for all", f'write {IS_COMPONENT}, `action == Action::"use"`, `resource is FileRead`'),
    ("P2, ¦action, resource);", "`action` alone stands for all", 'write `action == Action::"use"`, `resource is FileRead`'),
    ("P2, action == Action::\"use\", ¦resource);", "`resource` alone stands for all", f"write `resource is FileRead`; {ALL_TYPES}"),
    ("permit(¦principal == Component::\"report\", action, resource);", "`report` is not the uuid of a component", f"write {IS_COMPONENT}; `omnibase registry show report` says"),
    ("permit(¦principal == Component::\"a b\", action, resource);", "`a b` is not the uuid", "`omnibase registry show NAME`"),
    (f"permit(¦principal == Component::\"{OTHER}\", action, resource);", f"for component `{OTHER}`, not for `{COMPONENT}`", f"write {IS_COMPONENT}"),
    ("permit(¦principal == User::\"x\", action, resource);", "a policy is for one component", f"write {IS_COMPONENT}"),
    ("permit(¦principal is Component, action, resource);", "a policy is for one component", f"write {IS_COMPONENT}"),
    ("P2, ¦action == Action::\"read\", resource);", "the action is always the same", 'write `action == Action::"use"`'),
    ("P2, action == Action::\"use\", ¦resource is FILE_READ);", "`FILE_READ` is no type of resource", f"did you mean `resource is FileRead`? {ALL_TYPES}"),
    ("P2, action == Action::\"use\", ¦resource is Zzz);", "`Zzz` is no type of resource", ALL_TYPES),
    ("P2, action == Action::\"use\", ¦resource == FileRead::\"x\");", "the resource is named by its type", "write e.g. `resource is FileRead` and `when {"),
    ("¦@id(\"-x\")\nP;", "policy `-x`: the id `-x` is malformed", "a letter or digit first"),
    ("@id(\"x\") @¦reason(\"\")\nP;", "policy `x`: the reason is empty", "why the policy is there"),
    ("@¦resource(\"\")\nP;", "unknown annotation `@resource`", "write `@id`, `@reason` or `@lint_ignore`"),
    ("@reason(\"y\") @¦lint_ignore(\"x\")\nP;", "`x` is no code of a lint", "`OBP001`"),
    ("@id(\"x\")\nP when { ¦\"/x\" == resource.path };", "policy `x`: the attribute stands on the left", 'write `resource.path == "/x"`'),
    ("N when { ¦80 < resource.port };", "the attribute stands on the left", "write `resource.port > 80`"),
    ("P when { resource.path ¦!= \"/x\" };", "`!=` is not supported", 'write `!(resource.path == "/x")`'),
    ("P when { \"/x\" ¦!= resource.path };", "`!=` is not supported", 'write `!(resource.path == "/x")`'),
    ("P when { [1] ¦!= principal };", "`!=` is not supported", "write `!(… == principal)`"),
    ("P ¦when { resource.path };", "`resource.path` is no comparison", "compare an attribute"),
    ("P ¦when { true };", "`true` is no comparison", "leave out what always holds"),
    ("P ¦when { principal };", "`principal` is no comparison", "compare an attribute"),
    ("P ¦when { resource is FileRead };", "`is` is not supported in a condition", "write one policy for each type"),
    ("P ¦when { ip(\"::1\") };", "`ip` is not supported", "`like`"),
    ("P when { resource.¦name == \"x\" };", "`FileRead` has no attribute `name`", "write `resource.path`"),
    ("N when { resource.¦name == \"x\" };", "`NetworkConnect` has no attribute `name`", "write `resource.host` or `resource.port`"),
    ("P when { context.¦user == \"x\" };", "the context has no attribute `user`", "write `context.trust` or "),
    ("P when { ¦principal == 1 };", "`principal` is no attribute", "write e.g. `resource.path`"),
    ("P when { ¦principal.path == \"/x\" };", "`principal.path` is no attribute", "write e.g. `resource.path`"),
    ("P when { 1 + ¦1 == 2 };", "`…` is no attribute", "write e.g. `resource.path`"),
    ("P when { ¦1 like \"x\" };", "`1` is no attribute", "write e.g. `resource.path`"),
    ("P when { resource.path == ¦context.trust };", "`context.trust` is no constant", "a text in double quotes, or a whole number"),
    ("M when { resource.bytes <= ¦1024 * 1024 };", "`…` is no constant", "a text in double quotes, or a whole number"),
    ("P when { resource.path == ¦Component::\"x\" };", "expected a text", "a path"),
    ("P when { resource.path ¦>= \"/a\" };", "`resource.path` cannot be compared with `>=`", "allowed here: `==`, `like`"),
    ("P when { resource.path == ¦\"/tmp/d/\" };", "ends with `/`", 'hint: drop the last `/`; all below it is `like "/tmp/d/*"`'),
    ("P when { resource.path like ¦\"d/*\" };", "matches no canonical path", "hint: e.g. `/data/*`"),
    ("P when { context.trust == ¦\"root\" };", 'found `"root"`', '`"semi_trusted"`'),
    (f"P when {{ resource.path == \"/a\" }} ¦unless {{ {MANY} }};", "the conditions are too long", "at most 128 operators"),
    (f"¦P when {{ {DEEP} }};", "its conditions are nested too deeply", "split the policy"),
    # Comparisons are counted, whatever joins them, and whatever else has such a sign in it.
    ("P unless { resource.path == \"/<==\" }\nwhen { resource.path == \"/a\" ||\n !(resource.path like \"/b\" && resource.path ¦< \"/c\") };", "cannot be compared with `<`", "`like`"),
    ("P when { ((1 == 2¦) == true) };", "`…` is no attribute", "write e.g."),
    ("P when { {\"==\": 1¦} == 1 };", "`…` is no attribute", "write e.g."),
]  # fmt: skip


def unmarked(marked: str) -> tuple[str, str]:
    """Writes out a case behind a good policy; returns it with and without the mark."""
    for short, long in (("P2", P.partition(",")[0]), ("P", P), ("M", MEMORY), ("N", NETWORK)):
        if marked.lstrip("¦").startswith(
            (short + " ", short + "\n", short + ",", short + ";", short + "¦")
        ):
            mark = "¦" * marked.startswith("¦")
            marked = mark + long + marked.lstrip("¦")[len(short) :]
            break
    marked = GOOD + marked.replace("\nP", f"\n{P}")
    return marked, marked.replace("¦", "")


@pytest.mark.parametrize(("marked", "said", "hint"), [*SLIPS, *SYNTAX, *MEANING])
def test_a_refusal_has_a_place_and_what_to_write(
    marked: str, said: str, hint: str, tmp_path: Path
) -> None:
    marked, text = unmarked(marked)
    error = refusal(tmp_path / "x.cedar", text, COMPONENT)
    assert said in error.message
    assert hint in f"hint: {error.hint}"
    told = error.message + str(error.hint)
    assert "staticPolicies" not in told and str(UUID(int=0)) not in told and "policy1" not in told
    before, mark, _ = marked.partition("¦")
    place = (error.details["line"], error.details["column"])
    if mark:
        assert place == (before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1)
    assert f"x.cedar`, line {place[0]}, column {place[1]}: " in error.message
    assert error.details["reason"] == "invalid"


def test_the_cases_of_one_list_are_cedars_own_refusals() -> None:
    for marked, *_ in MEANING:
        json_of(unmarked(marked)[1], "x.cedar")
    for marked, *_ in SYNTAX:
        with pytest.raises(PolicyError, match="it is not cedar"):
            json_of(unmarked(marked)[1], "x.cedar")


def test_whoever_said_no_principal_is_told_where_to_find_it(tmp_path: Path) -> None:
    head = (
        'permit(principal == Component::"report", action == Action::"use", resource is FileRead);'
    )
    for text, name in ((head, "report"), ("permit(principal, action, resource);", "NAME")):
        error = refusal(tmp_path / "x.cedar", text)
        assert 'write `principal == Component::"<uuid>"`' in str(error.hint)
        assert f"`omnibase registry show {name}` says the uuid" in str(error.hint)
    data = json.loads(json_of(head, "x"))
    error = refusal(tmp_path / "x.json", json.dumps(data))
    assert "registry show NAME" in str(error.hint) and "00000000" not in str(error.hint)
    assert error.details["json_path"] == "$.staticPolicies.policy0.principal.entity.id"


def test_two_policies_of_one_name_and_a_mark_in_front(tmp_path: Path) -> None:
    error = refusal(tmp_path / "x.cedar", f'{GOOD}@id("good")\n{P};')
    assert "line 6, column 1: two policies have the id `good`" in error.message
    error = refusal(tmp_path / "x.cedar", f"\ufeff{P};")
    assert "line 1, column 1: there is a byte order mark" in error.message


def test_a_long_statement_is_looked_through_in_few_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    fault = policy_syntax._fault
    monkeypatch.setattr(policy_syntax, "_fault", lambda text: asked.append(1) or fault(text))
    many = " || ".join(f'resource.path == "/{i}"' for i in range(120))
    error = refusal(tmp_path / "x.cedar", f"{GOOD}{P} when {{ {many} || }};")
    assert "unexpected token `}`" in error.message and len(asked) < 16


def test_what_cedar_refuses_as_a_whole_alone_has_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_syntax, "_fault", lambda _: None)
    with pytest.raises(PolicyError) as caught:
        json_of("permit();", "x.cedar")
    assert caught.value.message.startswith("`x.cedar`: it is not cedar: ")


def test_a_refusal_that_is_of_no_place_stays_as_it_is() -> None:
    error = PolicyError("`x`: cedar refuses the policy", details={"source": "x"})
    document = json_of(f"{P};", "x")
    assert in_cedar(error, document, f"{P};", "x", COMPONENT) is error


def test_what_is_accepted_is_the_same_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.cedar"
    path.write_text(GOOD)
    found = read_policy(str(path))
    assert found.policy.rules == Policy.from_cedar(GOOD, "x", COMPONENT).rules
    assert found.document == json_of(GOOD, "x")
