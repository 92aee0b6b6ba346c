"""What a production line puts into each device: the root, who the device is, and the image that the factory writes.

    DIR/
      root.json           the newest published root
      provision.json      {"product":…,"hardware":…,"root":{"version":…,"sha256":…},"factory":[{"component":…,"path":…,"file":…,…}]}
      NAME                one image for each component, as it was published

`hillhold-device provision` takes the root and the images (README of the verifier); a microcontroller's production tool reads
`provision.json`. Nothing here is secret, and a device checks all of it; but whoever writes another root into devices owns them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hillhold_signer.chain import verify_chain
from hillhold_signer.errors import ProductRefused, RepositoryRefused, VerifyRefused
from hillhold_signer.layout import Layout
from hillhold_signer.products import caps_of
from hillhold_signer.releases import MAX_IMAGE, releases_of
from hillhold_signer.state import published_files
from hillhold_signer.storage import read_optional, write_file
from hillhold_verifier.release import Release, Version


@dataclass(frozen=True, slots=True)
class Provisioning:
    """What was written: the release of each component, and its file."""

    root_version: int
    root_sha256: str
    factory: Mapping[str, tuple[Release, Path]]


def write_provisioning(
    layout: Layout, product: str, hardware: str, output: Path, now: int, versions: Mapping[str, str] | None = None
) -> Provisioning:
    """Write the folder `output` for devices of one product and hardware.

    Args:
        now: Unix seconds; what has expired is not put into new devices.
        versions: by component, other versions than the newest ones that are not withdrawn.

    Raises:
        RepositoryRefused: `output` is there already.
        VerifyRefused: what is published does not verify now, or an image is not what was signed.
        ProductRefused: no such line, hardware, or release.
        StorageError: a file cannot be read or written.
    """
    if output.exists():
        raise RepositoryRefused(f"{output}", expected="a new folder", got="one that exists")
    chain = verify_chain(lambda name: published_files(layout, name), now)
    if hardware not in caps_of(chain.targets, product).hardware or product not in chain.lines:
        known = ", ".join(caps_of(chain.targets, product).hardware)
        raise ProductRefused(
            f"hardware of {product}", expected=f"one of {known}, with something published", got=hardware
        )
    found = [item for item in releases_of(chain.lines[product]) if hardware in item.hardware]
    factory = {}
    for component in dict.fromkeys(item.component for item in found):
        release = _chosen([item for item in found if item.component == component], component, versions or {})
        data = read_optional(layout.target(release.path, release.sha256.hex()), MAX_IMAGE)
        if data is None or sha256(data).digest() != release.sha256:
            got = "none" if data is None else "other bytes"
            raise VerifyRefused(f"target {release.path}", expected="its bytes", got=got)
        name = f"{component}-{release.path.rpartition('/')[2]}"
        write_file(output / name, data)
        factory[component] = (release, output / name)
    if unknown := sorted(set(versions or {}) - set(factory)):
        raise ProductRefused("component", expected=f"one of {', '.join(factory) or 'none'}", got=unknown[0])
    root = chain.raw["root"]
    done = Provisioning(chain.root.version, sha256(root).hexdigest(), factory)
    write_file(output / "root.json", root)
    write_file(output / "provision.json", _manifest(product, hardware, done))  # last: it says that the rest is whole
    return done


def _chosen(releases: list[Release], component: str, versions: Mapping[str, str]) -> Release:
    """The version that was named, or the newest one that devices would take."""
    wanted = Version.parse(versions[component]) if component in versions else None
    fitting = [item for item in releases if item.withdrawn is None and wanted in (None, item.version)]
    if not fitting:
        known = ", ".join(str(item.version) for item in releases if item.withdrawn is None) or "none"
        raise ProductRefused(f"version of {component}", expected=f"one of {known}", got=versions.get(component, "none"))
    return max(fitting, key=lambda item: item.version)


def _manifest(product: str, hardware: str, done: Provisioning) -> bytes:
    factory = [
        {
            "component": component,
            "path": release.path,
            "file": file.name,
            "version": str(release.version),
            "security_counter": release.security_counter,
            "length": release.length,
            "sha256": release.sha256.hex(),
        }
        for component, (release, file) in done.factory.items()
    ]
    root = {"version": done.root_version, "sha256": done.root_sha256}
    value = {"product": product, "hardware": hardware, "root": root, "factory": factory}
    return json.dumps(value, indent=2).encode() + b"\n"
