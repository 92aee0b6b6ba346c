"""A SoftHSM2 token of its own for each test, through the real PKCS#11 module."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PIN = "123456"
MODULES = (Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/lib64/pkcs11/libsofthsm2.so"))
CURVES = {
    "ecdsa-p256": bytes.fromhex("06082a8648ce3d030107"),
    "ecdsa-p384": bytes.fromhex("06052b81040022"),
    "ecdsa-p521": bytes.fromhex("06052b81040023"),
    "ed25519": bytes.fromhex("06032b6570"),
}
RSA = {"rsa-1024": 1024, "rsa-2048": 2048, "rsa-3072": 3072}


def module() -> str:
    """The path of SoftHSM's module; the Makefile's `system` installs it."""
    return str(next(path for path in MODULES if path.exists()))


@dataclass(frozen=True)
class SoftHsm:
    """A folder of tokens, which the environment of this process names."""

    folder: Path

    def token(self, label: str) -> None:
        """Initialise one more token."""
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "87654321"]
        subprocess.run(command, check=True, capture_output=True)
        self.forget()

    def key(
        self, label: str, kind: str, keyid: int, *, public: bool = True, private: bool = True, hidden: bool = False
    ) -> None:
        """Make a key pair in a token, or half of one; `hidden`: even the public half is shown only after the PIN."""
        import pkcs11
        from pkcs11 import Attribute, KeyType, Mechanism

        where: dict[str, Any] = {
            "public_template": {Attribute.PRIVATE: hidden},
            "store": True,
            "id": keyid.to_bytes((keyid.bit_length() + 7) // 8, "big"),
        }
        with self.session(label) as session:
            if kind in RSA:
                pair = session.generate_keypair(KeyType.RSA, RSA[kind], **where)
            else:
                edwards = kind == "ed25519"
                form = KeyType.EC_EDWARDS if edwards else KeyType.EC
                domain = session.create_domain_parameters(form, {Attribute.EC_PARAMS: CURVES[kind]}, local=True)
                if edwards:
                    where["mechanism"] = Mechanism.EC_EDWARDS_KEY_PAIR_GEN
                pair = domain.generate_keypair(**where)
            assert isinstance(pair[0], pkcs11.PublicKey)
            for wanted, item in zip((public, private), pair, strict=True):
                if not wanted:
                    item.destroy()

    @contextmanager
    def session(self, label: str) -> Iterator[Any]:
        """A session with the right to write."""
        import pkcs11

        with pkcs11.lib(module()).get_token(token_label=label).open(user_pin=PIN, rw=True) as session:
            yield session

    def forget(self) -> None:
        """Have this process read the folder anew, as another process would."""
        import pkcs11

        pkcs11.unload(module())

    def take_out(self) -> None:
        """Take every token away."""
        self.tokens.rename(self.folder / "away")
        self.tokens.mkdir()

    def put_back(self) -> None:
        """Undo `take_out`; SoftHSM sees it in the next process only."""
        shutil.rmtree(self.tokens)
        (self.folder / "away").rename(self.tokens)
        self.forget()

    @property
    def tokens(self) -> Path:
        """Where SoftHSM keeps them."""
        return self.folder / "tokens"


@contextmanager
def softhsm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftHsm]:
    """Start with no token at all; the environment leads this process and its children to `folder`."""
    found = SoftHsm(folder)
    found.tokens.mkdir(parents=True)
    config = folder / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {found.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(config))
    monkeypatch.setenv("PYKCS11LIB", module())
    found.forget()
    yield found
    found.forget()
