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
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hillhold_signer.chain import verify_chain
from hillhold_signer.errors import ProductRefused, RepositoryRefused, StorageError, VerifyRefused
from hillhold_signer.fleet import Fleet
from hillhold_signer.layout import Layout
from hillhold_signer.products import caps_of
from hillhold_signer.releases import MAX_IMAGE
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
        versions: by component, other versions than those that a device would come to by itself.

    Raises:
        RepositoryRefused: `output` is there already.
        VerifyRefused: what is published does not verify now, or an image is not what was signed.
        ProductRefused: no such line, hardware, or release.
        StorageError: a file cannot be read or written.
    """
    if output.exists():
        raise RepositoryRefused(f"{output}", expected="a new folder", got="one that exists")
    chain = verify_chain(lambda name: published_files(layout, name), now)
    caps = caps_of(chain.targets, product)
    if hardware not in caps.hardware or product not in chain.lines:
        known = ", ".join(caps.hardware)
        raise ProductRefused(
            f"hardware of {product}", expected=f"one of {known}, with something published", got=hardware
        )
    chosen = _chosen(Fleet(product, caps, chain.lines[product]), hardware, versions or {})
    root = chain.raw["root"]
    partial = output.with_name(f".{output.name}.tmp")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        files = {item.component: _write_image(layout, item, partial) for item in chosen}
        factory = {item.component: (item, output / files[item.component].name) for item in chosen}
        done = Provisioning(chain.root.version, sha256(root).hexdigest(), factory)
        write_file(partial / "root.json", root)
        write_file(partial / "provision.json", _manifest(product, hardware, done))
        partial.rename(output)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise StorageError(f"cannot write {output}: {error.strerror or error}") from error
    return done


def _chosen(fleet: Fleet, hardware: str, versions: Mapping[str, str]) -> list[Release]:
    """The version that was named of each component, or what a device would come to by itself: never what it then steps down from."""
    found = [item for item in fleet.releases if hardware in item.hardware]
    components = list(dict.fromkeys(item.component for item in found))
    if unknown := sorted(set(versions) - set(components)):
        raise ProductRefused("component", expected=f"one of {', '.join(components) or 'none'}", got=unknown[0])
    newest = fleet.settle(hardware, {})
    chosen = []
    for component in components:
        here = [item for item in found if item.component == component and item.withdrawn is None]
        release = newest.get(component)
        if component in versions:
            wanted = Version.parse(versions[component])
            release = next((item for item in here if item.version == wanted), None)
        if release is None:
            known = ", ".join(str(item.version) for item in here) or "none"
            got = versions.get(component, "none that a device would install")
            raise ProductRefused(f"version of {component}", expected=f"one of {known}", got=got)
        chosen.append(release)
    return chosen


def _write_image(layout: Layout, release: Release, folder: Path) -> Path:
    """Write a release's image under a name that no other component has: names may have hyphens, too."""
    data = read_optional(layout.target(release.path, release.sha256.hex()), MAX_IMAGE)
    if data is None or sha256(data).digest() != release.sha256:
        raise VerifyRefused(f"target {release.path}", expected="its bytes", got="none" if data is None else "others")
    path = folder / f"{release.component}-{release.path.rpartition('/')[2]}"
    while path.exists():
        path = path.with_name(f"{release.component}-{path.name}")
    write_file(path, data)
    return path


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
