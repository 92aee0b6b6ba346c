"""The keys that publish, opened by the URIs in the settings: one for snapshot, one for timestamp."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Root

from hillhold_signer.errors import KeyRefused
from hillhold_signer.keys import load_signer
from hillhold_signer.publish import OnlineSigners


def online_signers(
    root: Root, uris: Mapping[str, str], ask: Callable[[str], str], instead: Mapping[str, str] | None = None
) -> OnlineSigners:
    """Open the online keys that a root names, each once.

    Args:
        uris: by key id, from `hillhold.toml` ("online").
        ask: returns a passphrase or PIN for what it is asked.
        instead: by role, a URI other than that.

    Raises:
        KeyRefused: no URI, or a key that cannot be opened or is another.
        ToolError: the token or key service failed.
    """
    opened: dict[str, Signer] = {}
    found = []
    for role in ("snapshot", "timestamp"):
        key = online_key(root, role, uris)
        uri = (instead or {}).get(role) or uris.get(key.keyid)
        if uri is None:
            hint = f'say where it is, in hillhold.toml: [online], "{key.keyid}" = "URI"'
            raise KeyRefused(f"key of {role}", expected=f"the URI of {key.keyid[:16]}", got="none", hint=hint)
        if uri not in opened:
            opened[uri] = load_signer(uri, key, ask)
        found.append(opened[uri])
    return OnlineSigners(found[0], found[1])


def online_key(root: Root, role: str, uris: Mapping[str, str]) -> Key:
    """Return the key of an online role that this machine has, or else the first; an HSM or KMS is opened by the public key."""
    keyids = root.roles[role].keyids
    return root.get_key(next((keyid for keyid in keyids if keyid in uris), keyids[0]))
