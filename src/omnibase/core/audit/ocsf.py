"""Events as OCSF 1.3 records. Source of classes and fields: https://schema.ocsf.io/1.3.0.

What was denied, refused or tried is a Detection Finding (class 2004), with the
``security_control`` profile's action and disposition; everything else is
Application Lifecycle (class 6002).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from omnibase import __version__
from omnibase.core.audit.filling import decision_of

__all__ = ["to_ocsf"]

VERSION: Final = "1.3.0"
_DETECTION, _LIFECYCLE = 2004, 6002
_CATEGORY: Final = {_DETECTION: (2, "Findings"), _LIFECYCLE: (6, "Application Activity")}
_CLASS: Final = {_DETECTION: "Detection Finding", _LIFECYCLE: "Application Lifecycle"}
_START, _STOP, _OTHER = 3, 4, 99


def to_ocsf(event: dict[str, Any]) -> dict[str, Any]:
    """Returns an event as an OCSF record; the event itself is in ``unmapped``.

    Args:
        event: The event's JSON data.
    """
    name = str(event.get("eventname"))
    data = event.get("data")
    data = data if isinstance(data, dict) else {}
    decision = decision_of(name, data)
    if decision in (2, 3):
        class_uid, activity, activity_name = _DETECTION, 1, "Create"
    else:
        class_uid = _LIFECYCLE
        activity, activity_name = {
            "SandboxStart": (_START, "Start"), "UnsandboxedStart": (_START, "Start"),
            "SandboxExit": (_STOP, "Stop"),
        }.get(name, (_OTHER, name))  # fmt: skip
    severity, severity_name = (4, "High") if decision == 3 else (
        (3, "Medium") if decision == 2 else (1, "Informational")
    )  # fmt: skip
    category, category_name = _CATEGORY[class_uid]
    record: dict[str, Any] = {
        "activity_id": activity,
        "activity_name": activity_name,
        "category_uid": category,
        "category_name": category_name,
        "class_uid": class_uid,
        "class_name": _CLASS[class_uid],
        "type_uid": class_uid * 100 + activity,
        "time": _milliseconds(event.get("time")),
        "severity_id": severity,
        "severity": severity_name,
        "message": f"{name}: {data.get('reason') or data.get('capability') or ''}".rstrip(": "),
        "metadata": {
            "version": VERSION,
            "uid": event.get("id"),
            "correlation_uid": event.get("runid"),
            "sequence": _integer(event.get("sequence")),
            "event_code": event.get("type"),
            "original_time": event.get("time"),
            "product": {"name": "OmniBase", "vendor_name": "OmniBase", "version": __version__},
        },
        "unmapped": event,
    }
    app = {"name": event.get("subject"), "uid": event.get("componentid")}
    app = {key: value for key, value in app.items() if value is not None}
    run = {"type": "run", "uid": str(event.get("runid"))}
    if class_uid == _DETECTION:
        record["metadata"]["profiles"] = ["security_control"]
        record["finding_info"] = {
            "uid": event.get("id"),
            "title": name,
            "desc": str(data.get("resource") or data.get("capability") or ""),
        }
        # An errno of 0: it got through, since the host took its cover away; the run was ended.
        word, caption, number = ("Allowed", "Allowed", 1) if data.get("errno") == 0 else (
            ("Denied", "Blocked", 2)
        )  # fmt: skip
        record |= {"action_id": number, "action": word, "disposition_id": number,
                   "disposition": caption}  # fmt: skip
        record["resources"] = [{"type": "component", **app}] if app else [run]
    else:
        record["app"] = {"name": "omnibase", "vendor_name": "OmniBase", **app}
        if name == "SandboxExit":
            good = data.get("outcome") == "ok"
            record |= {"status_id": 1 if good else 2, "status": "Success" if good else "Failure",
                       "status_detail": data.get("outcome")}  # fmt: skip
    return record


def _integer(text: Any) -> int:
    return int(text) if str(text).isdecimal() else 0


def _milliseconds(text: Any) -> int:
    try:
        return round(datetime.fromisoformat(str(text)).timestamp() * 1000)
    except ValueError:
        return 0
