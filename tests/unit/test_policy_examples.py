"""The worked policies of the documentation, each with its table of cases."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from omnibase.core.security.policy import Policy
from omnibase.core.security.policy_lint import lint
from omnibase.core.security.policy_schema import CEDAR_SCHEMA, policy_file_schema
from omnibase.core.security.policy_table import run_table
from tests.helpers.policies import COMPONENT

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples" / "policies").glob("*.cedar.json"))


def test_there_are_ten() -> None:
    assert len(EXAMPLES) == 10


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name.partition(".")[0])
def test_a_worked_policy_decides_as_its_table_says(path: Path) -> None:
    policy = Policy.parse(path.read_bytes(), str(path), COMPONENT)
    table = path.with_name(path.name.replace(".cedar.json", ".tests.json"))
    results = run_table(policy, table.read_bytes(), str(table))
    assert len(results) >= 4
    assert [result.message for result in results if not result.passed] == []
    assert lint(policy) == ()
    jsonschema.Draft202012Validator(policy_file_schema()).validate(json.loads(path.read_bytes()))
    page = (ROOT / "docs" / "security" / "policies.md").read_text()
    assert path.name in page


def test_the_published_schemas_are_current() -> None:
    schemas = ROOT / "docs" / "schemas"
    assert json.loads((schemas / "policy.schema.json").read_text()) == policy_file_schema()
    assert (schemas / "omnibase.cedarschema").read_text() == CEDAR_SCHEMA
    jsonschema.Draft202012Validator.check_schema(policy_file_schema())
