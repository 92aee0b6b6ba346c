"""Calls of a signing service over HTTP: JSON in, JSON out, and its errors as errors here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from hillhold_signer.errors import ConfigRefused, SignerRefused, ToolError

MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes."""
TIMEOUT: Final = 60.0
"""Seconds without a byte."""


def is_safe_url(url: str) -> bool:
    """Say whether a URL is https, or http on loopback, with nothing odd in it: no user, no control characters."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def path_of(*parts: str) -> str:
    """Return a path of these parts, whatever is in them."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


class RemoteService:
    """A service, and the token by which it is asked.

    Args:
        url: https, or http on loopback: a token does not travel in the clear.
        token: of an account.

    Raises:
        ConfigRefused: another kind of URL, or a token that cannot be one.
    """

    def __init__(self, url: str, token: str) -> None:
        if not is_safe_url(url):
            expected = "https://…, or http:// on this machine"
            raise ConfigRefused("URL of the service", expected=expected, got=repr(url)[:80])
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            hint = "HILLHOLD_TOKEN, or --token-file FILE; `hillhold token new` makes one"
            raise ConfigRefused(
                "token for the service", expected="one", got="none" if not token else "something else", hint=hint
            )
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity", "User-Agent": "hillhold"},
            timeout=TIMEOUT,
            trust_env=url.startswith("https://"),
        )

    def __enter__(self) -> RemoteService:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(self, method: str, path: str, value: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask the service, and return its answer.

        Raises:
            SignerRefused: it refuses.
            ToolError: it cannot be reached, fails, or answers something else than JSON.
        """
        try:
            with self._client.stream(method, path, json=value) as answer:
                body = _read(answer)
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
            raise ToolError(f"{self._client.base_url}: {said}", hint="is it running, and is the URL right?") from error
        try:
            found = json.loads(body) if body else {}
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ToolError(
                f"{self._client.base_url}: HTTP status {answer.status_code}, and no JSON", hint="is the URL right?"
            )
        if answer.is_success:
            return found
        detail = f"{found.get('detail') or f'HTTP status {answer.status_code}'}"
        hint = str(found["hint"]) if found.get("hint") else None
        if 400 <= answer.status_code < 500:
            raise SignerRefused(detail, hint=hint)
        raise ToolError(detail, hint=hint)


def _read(answer: httpx.Response) -> bytes:
    body = bytearray()
    for part in answer.iter_raw():
        body += part
        if len(body) > MAX_ANSWER:
            raise ToolError(f"{answer.url}: an answer of more than {MAX_ANSWER} bytes")
    return bytes(body)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
