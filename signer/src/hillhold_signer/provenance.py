"""Where a build came from: an in-toto statement (v1 or v0.1, as SLSA provenance is one), bare or in a DSSE envelope.

It is read so far that it cannot be one of another build: its subjects have to name the images. Whose signature an envelope bears is not
judged; its digest is kept, so that whoever has to can do so later.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

from hillhold_signer.errors import ReleaseRefused

DSSE: Final = "application/vnd.in-toto+json"
STATEMENTS: Final = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")


def check_provenance(data: bytes, image: str) -> None:
    """Refuse a statement that cannot be about an image.

    Args:
        image: its SHA-256, in hexadecimal, which must be that of a subject.

    Raises:
        ReleaseRefused: not a statement, or about something else.
    """
    value = _json(data, "provenance")
    if "payloadType" in value:
        if value["payloadType"] != DSSE:
            raise ReleaseRefused("provenance", expected=f"a payload of {DSSE}", got=repr(value["payloadType"])[:80])
        try:
            value = _json(base64.b64decode(str(value.get("payload")), validate=True), "payload of the provenance")
        except binascii.Error:
            raise ReleaseRefused("provenance", expected="a payload in base64", got="something else") from None
    if value.get("_type") not in STATEMENTS:
        raise ReleaseRefused("provenance", expected="an in-toto statement", got=repr(value.get("_type"))[:80])
    subjects = value.get("subject")
    named = set()
    for subject in subjects if isinstance(subjects, list) else ():
        digest = subject.get("digest") if isinstance(subject, dict) else None
        if isinstance(digest, dict):
            named.add(str(digest.get("sha256")))
    if image not in named:
        hint = "the statement of the job that built this image is wanted"
        raise ReleaseRefused("provenance", expected=f"a subject of SHA-256 {image[:16]}…", got="none", hint=hint)


def _json(data: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ReleaseRefused(what, expected="JSON", got="something else") from None
    if not isinstance(found, dict):
        raise ReleaseRefused(what, expected="a JSON object", got="something else")
    return found
