"""How an issuer of OpenID Connect is configured."""

from __future__ import annotations

import pytest

from hillhold_signer.errors import ConfigRefused
from hillhold_signer.service.oidc import Issuer
from hillhold_signer.serviceurl import is_safe_url
from idp import AUDIENCE


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example",
        "https://u:p@login.example",
        "https://x?y",
        "https://x#y",
        "",
        "x",
        "https://",
        "https://[::1",
    ],
)
def test_an_issuer_is_configured_by_an_https_url(url: str) -> None:
    with pytest.raises(ConfigRefused):
        Issuer(url, AUDIENCE)
    for good in (
        "https://login.example",
        "https://login.example/realms/acme/",
        "http://[::1]:80",
        "http://localhost:1",
    ):
        assert is_safe_url(good)
        Issuer(good, AUDIENCE)


def test_an_issuer_has_an_audience_algorithms_and_an_age() -> None:
    for settings in ({"audience": ""}, {"algorithms": ()}, {"max_age": 0}):
        with pytest.raises(ConfigRefused):
            Issuer(**{"url": "https://login.example", "audience": AUDIENCE, **settings})  # type: ignore[arg-type]
