"""The address of a service, and a token for it: what may be one."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from hillhold_signer.errors import ConfigRefused

LOGIN: Final = "HILLHOLD_TOKEN or --token-file names a token; `hillhold token new` makes one on the service"
_TOKEN: Final = re.compile(r"[!-~]{8,16384}")


def is_safe_url(url: str) -> bool:
    """Say whether a URL is https, or http on loopback, with nothing odd in it: no user, no control characters."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or port == 0 or parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def check_url(url: str) -> str:
    """Return the URL of a service, without a slash at its end; raises `ConfigRefused`."""
    if not is_safe_url(url) or {"?", "#"} & set(url):
        expected = "https://HOST, or http:// on this computer; no user or password in it, no ? or #"
        hint = "for example https://firmware.example.com"
        got = repr(url)[:80] if "@" not in url else "one with a user, who may have a password"
        raise ConfigRefused("URL of the service", expected=expected, got=got, hint=hint)
    return url.rstrip("/")


def check_token(token: str) -> str:
    """Return a token that may stand in a header; raises `ConfigRefused`, which does not show it."""
    if not _TOKEN.fullmatch(token):
        raise ConfigRefused("token for the service", expected="one", got="something else", hint=LOGIN)
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
