"""Write the example keys of `hillhold_signer.examples` into this folder: `python keys-example/make.py [FOLDER]`."""

from __future__ import annotations

import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from hillhold_signer.examples import NAMES, example_private

PEM = serialization.Encoding.PEM


def key_files() -> dict[str, bytes]:
    """Return the files by name: for each key the private and the public part, unencrypted PEM."""
    files = {}
    for name in NAMES:
        private = example_private(name)
        files[f"{name}-public-on-purpose.pem"] = private.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        files[f"{name}-public-on-purpose.pub"] = private.public_key().public_bytes(
            PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    return files


def main() -> None:
    """Write them."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in key_files().items():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
