"""Strict parsing: each refusal names the policy, the place, and what is allowed there."""

# ruff: noqa: E501 - the tables below read better with one case a line

from __future__ import annotations

import copy
import json
from typing import Any
from uuid import UUID

import jsonschema
import pytest

from omnibase.core.security import policy_schema
from omnibase.core.security.conditions import Test, all_of, any_of, negate
from omnibase.core.security.policy import Policy
from omnibase.core.security.policy_document import read_policies
from omnibase.core.security.policy_schema import policy_file_schema
from omnibase.core.security.policy_text import condition_text, expression_of, written
from omnibase.errors import PolicyError
from tests.helpers.policies import COMPONENT, policy

LIKE = {
    "like": {
        "left": {".": {"left": {"Var": "resource"}, "attr": "path"}},
        "pattern": [{"Literal": "/data/"}, "Wildcard"],
    }
}


def base(entity: str = "FileRead", body: Any = None) -> dict[str, Any]:
    one = {
        "effect": "permit",
        "principal": {"op": "==", "entity": {"type": "Component", "id": str(COMPONENT)}},
        "action": {"op": "==", "entity": {"type": "Action", "id": "use"}},
        "resource": {"op": "is", "entity_type": entity},
        "conditions": [{"kind": "when", "body": copy.deepcopy(body or LIKE)}],
    }
    return {"staticPolicies": {"p": one}, "templates": {}, "templateLinks": []}


def parse(document: Any) -> Policy:
    return Policy.parse(json.dumps(document).encode(), "p.cedar.json", COMPONENT)


def attribute(name: str, owner: str = "resource") -> dict[str, Any]:
    return {".": {"left": {"Var": owner}, "attr": name}}


def equal(name: str, value: Any, owner: str = "resource", operator: str = "==") -> dict[str, Any]:
    return {operator: {"left": attribute(name, owner), "right": {"Value": value}}}


def like(name: str, *pattern: Any) -> dict[str, Any]:
    return {"like": {"left": attribute(name), "pattern": list(pattern)}}


def literal(text: str) -> dict[str, str]:
    return {"Literal": text}


P = "$.staticPolicies.p"
BODY = f"{P}.conditions[0].body"

# where, what is put there, the JSON path of the refusal, a part of the message, of the hint
SHAPES: list[tuple[tuple[Any, ...], Any, str, str, str]] = [
    ((), [], "$", "expected an object", "`staticPolicies`"),
    (("extra",), 1, "$.extra", "unknown key `extra`", "`templates`"),
    (("templates",), {"t": {}}, "$.templates", "found an object", "{}"),
    (("templateLinks",), [1], "$.templateLinks", "found a list", "[]"),
    (("staticPolicies",), [], "$.staticPolicies", "expected an object", "by their ids"),
    (("staticPolicies", "-x"), {}, "$.staticPolicies['-x']", "`-x` is malformed", "letters"),
    (("staticPolicies", "p"), 1, P, "expected an object, found `1`", "`effect`"),
    (("staticPolicies", "p", "x"), 1, f"{P}.x", "unknown key `x`", "`annotations`"),
    (("staticPolicies", "p", "effect"), "allow", f"{P}.effect", '`"allow"`', '`"forbid"`'),
    (("staticPolicies", "p", "principal", "op"), "All", f"{P}.principal.op", "All", "=="),
    (
        ("staticPolicies", "p", "principal", "entity", "id"), "x",
        f"{P}.principal.entity.id", '`"x"`', str(COMPONENT),
    ),
    (
        ("staticPolicies", "p", "principal", "entity", "type"), "User",
        f"{P}.principal.entity.type", "User", "Component",
    ),
    (("staticPolicies", "p", "action", "op"), "in", f"{P}.action.op", "in", "=="),
    (
        ("staticPolicies", "p", "resource", "entity_type"), "File",
        f"{P}.resource.entity_type", "File", "FileRead",
    ),
    (("staticPolicies", "p", "resource", "in"), {}, f"{P}.resource.in", "unknown key", "`op`"),
    (("staticPolicies", "p", "conditions"), {}, f"{P}.conditions", "expected a list", "`when`"),
    (
        ("staticPolicies", "p", "conditions", 0, "kind"), "if",
        f"{P}.conditions[0].kind", "if", "unless",
    ),
    (("staticPolicies", "p", "annotations"), {"x": ""}, f"{P}.annotations.x", "unknown", "`reason`"),
    (("staticPolicies", "p", "annotations"), {"id": "q"}, f"{P}.annotations.id", "`\"q\"`", "p"),
    (("staticPolicies", "p", "annotations"), {"reason": 1}, f"{P}.annotations.reason", "1", "why"),
    (
        ("staticPolicies", "p", "annotations"), {"reason": " "},
        f"{P}.annotations.reason", "empty", "why",
    ),
    (
        ("staticPolicies", "p", "annotations"), {"reason": "x" * 301},
        f"{P}.annotations.reason", "too long", "300",
    ),
    (
        ("staticPolicies", "p", "annotations"), {"reason": "a\nb"},
        f"{P}.annotations.reason", "not printable", "300",
    ),
    (
        ("staticPolicies", "p", "annotations"), {"lint_ignore": "OBP002, OBP999"},
        f"{P}.annotations.lint_ignore", "OBP999", "OBP001",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("where", "value", "place", "said", "allowed"), SHAPES)
def test_a_wrong_shape_is_refused(
    where: tuple[Any, ...], value: Any, place: str, said: str, allowed: str
) -> None:
    document: Any = base()
    if where:
        target = document
        for key in where[:-1]:
            target = target[key]
        target[where[-1]] = value
    else:
        document = value
    with pytest.raises(PolicyError) as caught:
        parse(document)
    error = caught.value
    assert error.details["json_path"] == place
    assert f"`{place}`" in error.message and said in error.message
    assert error.hint is not None and allowed in error.hint
    assert error.details["line"] == 1 and error.details["source"] == "p.cedar.json"
    if place.startswith(P):
        assert error.details["policy"] == "p" and "policy `p`" in error.message
    if not place.startswith((f"{P}.annotations", f"{P}.principal.entity.id")):
        assert not jsonschema.Draft202012Validator(policy_file_schema()).is_valid(document)


@pytest.mark.parametrize("missing", ["effect", "principal", "action", "resource", "conditions"])
def test_a_missing_key_is_named(missing: str) -> None:
    document = base()
    del document["staticPolicies"]["p"][missing]
    with pytest.raises(PolicyError, match=f"the key `{missing}` is missing"):
        parse(document)


# entity, body, the rest of the JSON path, a part of the message, of the hint
BODIES: list[tuple[str, Any, str, str, str]] = [
    ("FileRead", 1, "", "one operator, found `1`", "`like`"),
    ("FileRead", {}, "", "one operator", "`&&`"),
    ("FileRead", {"has": {}}, ".has", "`has` is not supported", "`==`"),
    ("FileRead", {"!=": {}}, "['!=']", "`!=` is not supported", "`!`"),
    ("FileRead", {"Value": True}, ".Value", "`Value` is not supported", "`like`"),
    ("FileRead", {"!": {}}, "['!']", "the key `arg` is missing", "`arg`"),
    ("FileRead", {"&&": {"left": LIKE}}, "['&&']", "the key `right` is missing", "`left`"),
    ("FileRead", {"&&": {"left": LIKE, "right": 2}}, "['&&'].right", "one operator", "`like`"),
    ("FileRead", equal("host", "a"), "['=='].left['.'].attr", '"host"', '"path"'),
    ("FileRead", equal("x", "a", "context"), "['=='].left['.'].attr", '"x"', '"trust"'),
    ("FileRead", equal("path", "/a", "principal"), "['=='].left['.'].left.Var", "principal", "context"),
    ("FileRead", {"==": {"left": {"Value": 1}, "right": {"Value": 1}}}, "['=='].left.Value", "unknown key", "`.`"),
    ("FileRead", {"==": {"left": attribute("path"), "right": {"Var": "x"}}}, "['=='].right.Var", "unknown key", "`Value`"),
    ("FileRead", equal("path", "/a", operator="<"), "['<']", "cannot be compared with `<`", "`like`"),
    ("FileRead", equal("trust", "trusted", "context", "<"), "['<']", "cannot be compared", "`==`"),
    ("FileRead", equal("trust", "root", "context"), "['=='].right.Value", "root", "semi_trusted"),
    ("FileRead", equal("environment", 1, "context"), "['=='].right.Value", "expected a text", "environment"),
    ("FileRead", equal("path", 1), "['=='].right.Value", "expected a text", "a path"),
    ("FileRead", equal("path", "/a\nb"), "['=='].right.Value", "not printable", "4096"),
    ("FileRead", equal("path", "/data/../etc"), "['=='].right.Value", "nothing is equal to it", "`..`"),
    ("FileRead", equal("path", "data"), "['=='].right.Value", "not an absolute path", "from the root"),
    ("FileRead", like("path"), ".like.pattern", "matches no canonical path", "/data/*"),
    ("FileRead", {"like": {"left": attribute("path"), "pattern": "x"}}, ".like.pattern", "expected a list", "Wildcard"),
    ("FileRead", like("path", "Wild"), ".like.pattern[0]", "Wild", "Wildcard"),
    ("FileRead", like("path", {"L": ""}), ".like.pattern[0].L", "unknown key", "Literal"),
    ("FileRead", like("path", literal("data/"), "Wildcard"), ".like.pattern", "no canonical path", "/data"),
    ("FileRead", like("path", literal("/data//"), "Wildcard"), ".like.pattern", "no canonical path", "/data"),
    ("FileRead", like("path", literal("/data/")), ".like.pattern", "no canonical path", "/data"),
    ("FileRead", like("path", literal("/data/../"), "Wildcard"), ".like.pattern", "no canonical path", ".."),
    ("FileRead", like("path", *[literal("/" + "a" * 4000)] * 2), ".like.pattern", "too long", "4096"),
    ("NetworkConnect", equal("port", "443"), "['=='].right.Value", '"443"', "65535"),
    ("NetworkConnect", equal("port", True), "['=='].right.Value", "true", "65535"),
    ("NetworkConnect", equal("port", 70000), "['=='].right.Value", "70000", "65535"),
    ("NetworkConnect", equal("port", -1), "['=='].right.Value", "-1", "65535"),
    ("NetworkConnect", like("port", "Wildcard"), ".like", "cannot be compared with `like`", "`<=`"),
    ("NetworkConnect", equal("host", "API.example.com"), "['=='].right.Value", "canonical", "lower-case"),
    ("NetworkConnect", equal("host", "*.example.com"), "['=='].right.Value", "canonical", "like"),
    ("NetworkConnect", equal("host", "0x7f.1"), "['=='].right.Value", "plain form", "decimal"),
    ("NetworkConnect", equal("host", ""), "['=='].right.Value", "empty label", "in full"),
    ("NetworkConnect", like("host", literal("10."), "Wildcard"), ".like.pattern", "elsewhere than in front", "*.example.com"),
    ("NetworkConnect", like("host", "Wildcard", literal("example.com")), ".like.pattern", "no canonical host", "*.example.com"),
    ("NetworkConnect", like("host", "Wildcard", literal(".EXAMPLE.com")), ".like.pattern", "no canonical host", "*.example.com"),
    ("NetworkConnect", like("host", "Wildcard", literal(".*.com")), ".like.pattern", "no canonical host", "*.example.com"),
    ("NetworkConnect", like("host"), ".like.pattern", "no canonical host", "*.example.com"),
    ("SecretAccess", like("name", "Wildcard"), ".like", "cannot be compared with `like`", "`==`"),
    ("SecretAccess", equal("name", "TOKEN@a"), "['=='].right.Value", "has a host", "resource.host"),
    ("DatabaseRead", equal("name", "sales"), "['=='].right.Value", "is no database", "sqlite:"),
    (
        "DatabaseWrite", equal("name", "postgres://r@DB:5432/x"), "['=='].right.Value",
        "not the canonical form", "as a capability has it",
    ),
    (
        "DatabaseWrite", equal("name", "postgres://r:p@db:5432/x"), "['=='].right.Value",
        "holds a password", "secret",
    ),
    ("SecretAccess", equal("name", "1x"), "['=='].right.Value", "not the name of a secret", "letters"),
    ("Memory", equal("bytes", 1 << 45, operator="<="), "['<='].right.Value", "found", str(1 << 44)),
    ("ArtifactRead", equal("name", "a/../b"), "['=='].right.Value", "nothing is equal", "`..`"),
    ("ArtifactRead", like("name"), ".like.pattern", "empty", "models"),
]  # fmt: skip


@pytest.mark.parametrize(("entity", "body", "rest", "said", "allowed"), BODIES)
def test_a_wrong_condition_is_refused(
    entity: str, body: Any, rest: str, said: str, allowed: str
) -> None:
    document = base(entity)
    document["staticPolicies"]["p"]["conditions"][0]["body"] = body
    with pytest.raises(PolicyError) as caught:
        parse(document)
    error = caught.value
    assert error.details["json_path"] == BODY + rest
    assert error.details["policy"] == "p"
    assert said in error.message
    assert error.hint is not None and allowed in error.hint


def test_values_that_are_accepted() -> None:
    for entity, body, expected in (
        ("SecretAccess", equal("host", ""), Test("resource", "host", "==", "")),
        (
            "DatabaseRead",
            equal("name", "sqlite:/a.db"),
            Test("resource", "name", "==", "sqlite:/a.db"),
        ),
        ("NetworkConnect", like("host", "Wildcard"), Test("resource", "host", "like", (None,))),
        (
            "NetworkConnect",
            like("host", literal("a"), literal(".b")),
            Test("resource", "host", "==", "a.b"),
        ),
        (
            "FileRead",
            like("path", literal("/d"), literal("*/"), literal(""), "Wildcard", "Wildcard"),
            Test("resource", "path", "like", ("/d*/", None)),
        ),
        ("FileRead", like("path", literal("/a.b")), Test("resource", "path", "==", "/a.b")),
        ("ArtifactRead", like("name", "Wildcard"), Test("resource", "name", "like", (None,))),
    ):
        (rule,) = parse(base(entity, body)).rules
        assert rule.condition == expected


def test_too_long_conditions_and_too_many_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnibase.core.security.policy_document.MAX_OPERATORS", 2)
    body = {"&&": {"left": LIKE, "right": equal("path", "/x")}}
    with pytest.raises(PolicyError, match="conditions are too long"):
        parse(base(body=body))
    monkeypatch.setattr("omnibase.core.security.policy_document.MAX_POLICIES", 0)
    with pytest.raises(PolicyError, match="there are 1 policies"):
        parse(base())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"{", "broken JSON"),
        (b'{"templates": {}, "templates": {}}', "duplicate key `templates`"),
        (b"[" * 100, "nested too deeply"),
        (b"\xff\xfe", "UTF-16"),
        (b" " * ((1 << 20) + 1), "larger than"),
    ],
)
def test_broken_json_is_a_policy_error(data: bytes, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.parse(data, "p.cedar.json", COMPONENT)
    assert said in caught.value.message and "`p.cedar.json`" in caught.value.message


def test_another_components_document_is_refused() -> None:
    other = UUID(int=7)
    with pytest.raises(PolicyError, match="principal"):
        Policy.parse(json.dumps(base()).encode(), "p", other)


def test_the_document_is_kept_as_it_was_read() -> None:
    data = json.dumps(base()).encode()
    found = Policy.parse(data, "p", COMPONENT)
    assert found.document == base()
    assert Policy.parse(data, "elsewhere", COMPONENT) is found
    again = Policy.parse(found.to_json(), "p", COMPONENT)
    assert again.rules == found.rules and again.sha256 != found.sha256
    rules, document = read_policies(data, "p", COMPONENT)
    assert rules == found.rules and document == base()


def test_cedar_itself_refuses_what_does_not_fit_its_schema(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wider = {**policy_schema.ATTRIBUTES, "FileRead": {"path": ("==", "like"), "size": ("==",)}}
    monkeypatch.setattr("omnibase.core.security.policy_document.ATTRIBUTES", wider)
    with pytest.raises(PolicyError, match="cedar refuses the policy"):
        parse(base(body=equal("size", "x")))


def test_cedar_itself_refuses_what_it_cannot_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from omnibase.core.security.engine import Engine

    with pytest.raises(PolicyError, match="cedar refuses the policy"):
        Engine({"staticPolicies": {"p": {}}}, "p")


# --- Cedar's own syntax ------------------------------------------------------------------


def test_text_and_back() -> None:
    found = policy(
        '@id("data") @reason("ours") @lint_ignore("OBP002") permit FileRead when '
        '{ resource.path like "/data/\\*x*" && (resource.path == "/a\\"b" || '
        'context.trust == "trusted") } unless { resource.path like "/data/s*" }',
        "forbid Memory when { resource.bytes > 5 }",
    )
    assert [rule.id for rule in found.rules] == ["data", "policy1"]
    assert found.rules[0].reason == "ours" and found.rules[0].ignored == {"OBP002"}
    text = found.to_cedar()
    assert '@id("data")' in text and '@id("policy1")' in text
    assert Policy.from_cedar(text, "again", COMPONENT).rules == found.rules


def test_conditions_as_text() -> None:
    a, b = Test("resource", "path", "==", '/a"'), Test("resource", "path", "like", ("/*", None))
    whole = any_of((a, all_of((b, negate(a)))))
    assert condition_text(whole) == (
        'resource.path == "/a\\"" || (resource.path like "/\\**" && !(resource.path == "/a\\""))'
    )
    assert condition_text(Test("resource", "port", "<", 5)) == "resource.port < 5"
    assert condition_text(True) == "true" and expression_of(False) == {"Value": False}
    again = policy(f"permit FileRead when {{ {condition_text(whole)} }}").rules[0].condition
    assert again == whole
    assert parse(base(body=expression_of(whole))).rules[0].condition == whole


def test_a_document_is_indented_unless_that_makes_it_too_large() -> None:
    assert written({"a": [1]}) == b'{\n  "a": [\n    1\n  ]\n}\n'
    assert written({"a": [1] * 400_000}).startswith(b'{"a":[1,1,1')


def test_a_deep_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(*_: Any) -> Any:
        raise RecursionError

    monkeypatch.setattr("omnibase.core.security.policy_text._by_id", deep)
    with pytest.raises(PolicyError, match="nested too deeply"):
        policy("permit FileRead")


def test_a_long_chain_becomes_shallow() -> None:
    alternatives = " || ".join(f'resource.path == "/f{i}"' for i in range(60))
    (rule,) = policy(f"permit FileRead when {{ {alternatives} }}").rules
    assert rule.condition is not True
    with pytest.raises(PolicyError, match="conditions are too long"):
        alternatives = " || ".join(f'resource.path == "/{i}"' for i in range(66))
        policy(f"permit FileRead when {{ {alternatives} }}")


HEAD = "permit(principal, action, resource) when { "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("permit();", "it is not cedar"),
        ("permit(principal, action, resource);", "policy `policy0`"),
        (
            'permit(principal, action, resource) when { "x };',
            "line 1, column 44: a text does not end",
        ),
        (f"{HEAD}{'(' * 60}true{')' * 60} }};", "nested too deeply"),
        (f"{HEAD}{'[' * 2000}", "nested too deeply"),
        (f"{HEAD}{'true||' * 1000}true }};", "the policy is too long"),
        (f"{HEAD}{'!' * 2000}true }};", "the policy is too long"),
        (f"{HEAD}context{'.a' * 2} == 1 }};", "an attribute has no attributes of its own"),
        (f"{HEAD}resource.isEmpty() }};", "a call of the method `isEmpty` is not allowed"),
        (f"{HEAD}context . a . b == 1 }};", "an attribute has no attributes of its own"),
        (f"{HEAD}resource has {'a.' * 200}a }};", "`has` is not allowed"),
        (f"{HEAD}if true then true else true }};", "`if` is not allowed"),
        (f"{HEAD}true }} {'when { true } ' * 300};", "the policy is too long"),
        (f"{HEAD}{'A::' * 300}B == 1 }};", "the policy is too long"),
        (f"{HEAD}{'true||' * 250}true }};", "policy `policy0`"),
        (f"{HEAD}true }} {'when { true } ' * 250};", "policy `policy0`"),
        (f"{HEAD}[{'1,' * 900}1] == 1 }};", "policy `policy0`"),
        ('@a("b")' * 390 + "permit(principal, action, resource);", ""),
        ("// a comment\n\n" + ";" * 2001, "too many policies"),
        ("x" * ((1 << 20) + 1), "larger than"),
        ('@id("a") permit(principal, action, resource);' * 2, "two policies have the id `a`"),
        ("permit(principal == ?principal, action, resource);", "a template is not allowed"),
    ],
)
def test_bad_text_is_refused_and_never_ends_the_process(text: str, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.from_cedar(text, "t.cedar", COMPONENT)
    assert said in caught.value.message and "`t.cedar`" in caught.value.message
    assert caught.value.hint


def test_without_a_component_in_mind_any_other_is_refused_with_where_to_find_it() -> None:
    with pytest.raises(PolicyError, match="principal") as caught:
        Policy.parse(json.dumps(base()).encode(), "p", UUID(int=0))
    assert "omnibase registry show" in f"{caught.value.message} {caught.value.hint}"


def test_a_path_that_ends_with_a_slash_is_refused_with_the_pattern_for_all_below() -> None:
    with pytest.raises(PolicyError, match="nothing is equal to it") as caught:
        parse(base(body=equal("path", "/data/")))
    assert 'like "/data/*"' in f"{caught.value.message} {caught.value.hint}"
