"""The published JSON Schema of component files."""

from __future__ import annotations

from typing import Any

from omnibase.core.registry import checks, model
from omnibase.core.registry.component_file import REQUIRED
from omnibase.core.registry.semver import MAX_VERSION_CHARS, SEMVER_PATTERN
from omnibase.core.security.capability_schema import MAX_CAPABILITIES, capability_file_schema

__all__ = ["component_schema"]

_END = r"(?![\s\S])"
"""Makes the ``$`` before it the very end in every dialect, also before a line feed."""


def component_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a component file.

    The schema checks the shape and the form of each text; `Component.from_json`
    also checks what belongs together (the order of the history, the digests).
    """
    sha256 = {"type": "string", "pattern": checks.SHA256_PATTERN + _END}
    time = {"type": "string", "pattern": checks.TIME_PATTERN + _END}
    number = {"type": "integer", "minimum": 1, "maximum": checks.MAX_NUMBER}
    change = {
        "time": time,
        "author": {"type": "string", "maxLength": checks.MAX_OWNER},
        "comment": {"type": "string", "maxLength": checks.MAX_COMMENT},
    }
    uuid = checks.UUID_PATTERN.removeprefix("^").removesuffix("$")
    script = checks.SCRIPT_PATTERN.removeprefix("^")
    policy_version = _object({"version": number, "sha256": sha256, "revision": number, **change})
    properties: dict[str, Any] = {
        "format": {"const": checks.FORMAT},
        "uuid": {"type": "string", "pattern": checks.UUID_PATTERN + _END},
        "name": {"type": "string", "pattern": checks.NAME_PATTERN + _END},
        "version": {
            "type": "string",
            "description": "SemVer 2.0.0.",
            "maxLength": MAX_VERSION_CHARS,
            "pattern": SEMVER_PATTERN + _END,
        },
        "owner": {"type": "string", "minLength": 1, "maxLength": checks.MAX_OWNER},
        "description": {"type": "string", "maxLength": checks.MAX_DESCRIPTION},
        "entrypoint": {
            "description": "`scripts/<uuid>/<file>`; written when a script is added.",
            "anyOf": [
                {"type": "null"},
                {"type": "string", "pattern": f"^scripts/{uuid}/{script}" + _END},
            ],
        },
        "lifecycle": {"enum": [member.value for member in model.Lifecycle]},
        "trust": {"enum": [member.value for member in model.Trust]},
        "capabilities_required": {
            "type": "array",
            "items": {"$ref": "#/$defs/capability"},
            "maxItems": MAX_CAPABILITIES,
        },
        "idempotent": {"type": "boolean"},
        "artifacts": {
            "type": "object",
            "description": "SHA-256 by name.",
            "propertyNames": {"pattern": checks.ARTIFACT_PATTERN + _END},
            "additionalProperties": sha256,
            "maxProperties": checks.MAX_ARTIFACTS,
        },
        "policy": {
            "description": "Written when a policy is put.",
            "anyOf": [
                {"type": "null"},
                _object(
                    {
                        "version": number,
                        "sha256": sha256,
                        "history": {
                            "type": "array",
                            "items": policy_version,
                            "minItems": 1,
                            "maxItems": checks.MAX_POLICY_HISTORY,
                        },
                    }
                ),
            ],
        },
        "revision": {
            "description": "Written by the store.",
            "anyOf": [
                {"type": "null"},
                _object(
                    {
                        "number": number,
                        "sequence": {**number, "maximum": checks.MAX_SEQUENCE},
                        "previous": {"anyOf": [{"type": "null"}, sha256]},
                        "action": {"enum": [member.value for member in model.Action]},
                        **change,
                    }
                ),
            ],
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:omnibase:schema:component:1",
        "title": "OmniBase component",
        "description": "What the registry knows of one component.",
        **_object(properties),
        "required": list(REQUIRED),
        "$defs": {"capability": capability_file_schema()["$defs"]["capability"]},
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
