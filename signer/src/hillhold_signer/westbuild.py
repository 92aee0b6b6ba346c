"""Zephyr build folders: which signed images lie there, and what they were built from.

    build/zephyr/zephyr.signed.bin                     west build
    build/domains.yaml, build/DOMAIN/zephyr/…          with sysbuild: one folder for each domain that gets flashed
    …/zephyr/.config                                   CONFIG_KERNEL_BIN_NAME; CONFIG_MCUBOOT=y is the bootloader itself
    …/zephyr/zephyr.meta, …/build_info.yml             written at build time (CONFIG_BUILD_OUTPUT_META): revisions; source folder

`domains.yaml` states folders as they were on the machine that built; only names are taken from it, so that a copied folder works.
The revision is that of the west project which holds the application, as it was at build time. What a source folder holds now proves
nothing of the image, and is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import yaml

from hillhold_signer.errors import ReleaseRefused
from hillhold_signer.images import MAX_HEX, read_firmware
from hillhold_signer.releases import MAX_IMAGE
from hillhold_signer.storage import read_file, read_optional
from hillhold_verifier.release import DEFAULT_COMPONENT

MAX_INFO: Final = 4 * 1024 * 1024
"""Bytes of `.config`, `domains.yaml`, `build_info.yml` or `zephyr.meta`."""
SIGNED_HINT: Final = (
    "Zephyr signs with CONFIG_BOOTLOADER_MCUBOOT=y and CONFIG_MCUBOOT_SIGNATURE_KEY_FILE (sysbuild: SB_CONFIG_BOOTLOADER_MCUBOOT=y); "
    "or sign zephyr.bin with `hillhold image sign`"
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_SETTING: Final = re.compile(r'^(CONFIG_[A-Z0-9_]+)=(?:"([^"]*)"|(\S+))$', re.MULTILINE)
_REVISION: Final = re.compile(r"[0-9a-f]{40}(-dirty|-extra|-off)*")


@dataclass(frozen=True, slots=True)
class Chosen:
    """An image for a component.

    Attributes:
        path: the file that was read.
        data: the image.
        source: the revision that its build folder states, or None.
    """

    component: str
    path: Path
    data: bytes
    source: str | None


def choose_images(folder: Path | None, components: Mapping[str, str | None]) -> tuple[Chosen, ...]:
    """Return the images that are meant, of a build folder or files.

    Args:
        folder: the build folder, or None where `components` names files.
        components: by component the domain or file that holds its image, or None: the only image of the folder. Empty: the only
            image is `DEFAULT_COMPONENT`.

    Raises:
        ReleaseRefused: no image, or several and it is not said which is which.
        StorageError: a file cannot be read.
    """
    found = find_images(folder) if folder else {}
    wanted = components or {DEFAULT_COMPONENT: None}
    chosen = []
    for component, where in wanted.items():
        if where is None:
            if len(found) != 1 or len(wanted) != 1:
                hint = "say which is which: --component NAME=DOMAIN, once for each image that is wanted"
                got = ", ".join(found) or "none"
                raise ReleaseRefused("images", expected="one", got=got, hint=hint)
            path = next(iter(found.values()))
        elif where in found:
            path = found[where]
        elif Path(where).is_file():
            path = Path(where)
        else:
            listed = ", ".join(found) or "none"
            expected = f"a file, or a domain of the build folder: {listed}"
            raise ReleaseRefused(f"component {component}", expected=expected, got=repr(where)[:80])
        inside = folder is not None and path in found.values()
        chosen.append(Chosen(component, path, read_image_file(path), built_from(path.parent) if inside else None))
    if len({item.path for item in chosen}) < len(chosen):
        raise ReleaseRefused("components", expected="an image of its own for each", got="one for two")
    return tuple(chosen)


def find_images(folder: Path) -> dict[str, Path]:
    """Return the signed images of a build folder by domain, the default one first; the bootloader's own is none.

    Raises:
        ReleaseRefused: no build folder, or nothing signed in it.
        StorageError: a file cannot be read.
    """
    domains = _domains(folder)
    images, unsigned = {}, []
    for name, place in domains.items():
        settings = _settings(place)
        if settings.get("CONFIG_MCUBOOT") == "y":
            continue
        stem = settings.get("CONFIG_KERNEL_BIN_NAME", "zephyr")
        if not _NAME.fullmatch(stem):
            raise ReleaseRefused(f"{place}", expected="a file name as CONFIG_KERNEL_BIN_NAME", got=repr(stem)[:80])
        files = [place / f"{stem}.signed.{suffix}" for suffix in ("bin", "hex")]
        if (image := next((file for file in files if file.is_file()), None)) is not None:
            images[name] = image
        else:
            unsigned.append(name)
    if not images:
        got = f"none in {', '.join(unsigned)}" if unsigned else "none"
        raise ReleaseRefused(f"{folder}", expected="zephyr.signed.bin or .hex", got=got, hint=SIGNED_HINT)
    return images


def read_image_file(path: Path) -> bytes:
    """Return an image from a file, binary or Intel HEX; raises `ImageRefused`, `FileRefused`, `StorageError`."""
    limit = MAX_HEX if path.suffix.lower() == ".hex" else MAX_IMAGE
    return read_firmware(read_file(path, limit), path.name)


def built_from(place: Path) -> str | None:
    """Return what a build folder's `zephyr/` says it was built from, as PROJECT@REVISION, or None where it does not say.

    Raises:
        ReleaseRefused: malformed YAML.
        StorageError: a file cannot be read.
    """
    stem = _settings(place).get("CONFIG_KERNEL_BIN_NAME", "zephyr")
    meta, info = _yaml(place / f"{stem}.meta"), _yaml(place.parent / "build_info.yml")
    source = _text(_sub(_sub(info, "cmake"), "application").get("source-dir"))
    projects = _sub(meta, "west").get("projects")
    if not source or not isinstance(projects, list):
        return None
    best: tuple[int, str] | None = None
    for project in [*projects, _sub(meta, "zephyr")]:
        path, revision = (
            (_text(project.get(name)) for name in ("path", "revision")) if isinstance(project, dict) else ("", "")
        )
        holds = path and PurePosixPath(source).is_relative_to(path)
        if holds and _REVISION.fullmatch(revision) and (best is None or len(path) > best[0]):
            best = len(path), f"{PurePosixPath(path).name}@{revision}"
    return best[1] if best else None


def _domains(folder: Path) -> dict[str, Path]:
    """The `zephyr/` folders by domain."""
    value = _yaml(folder / "domains.yaml")
    if not value:
        if not (folder / "zephyr").is_dir():
            raise ReleaseRefused(f"{folder}", expected="a west build folder", got="neither zephyr/ nor domains.yaml")
        return {DEFAULT_COMPONENT: folder / "zephyr"}
    listed = value.get("domains")
    names = [item.get("name") for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    if not names or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise ReleaseRefused(f"{folder / 'domains.yaml'}", expected="the names of domains", got="others")
    names.sort(key=lambda name: name != value.get("default"))
    return {str(name): folder / str(name) / "zephyr" for name in names}


def _settings(place: Path) -> dict[str, str]:
    text = (read_optional(place / ".config", MAX_INFO) or b"").decode(errors="replace")
    return {name: quoted or plain for name, quoted, plain in _SETTING.findall(text)}


def _yaml(path: Path) -> dict[str, object]:
    """A YAML file's mapping; empty where there is no such file."""
    data = read_optional(path, MAX_INFO)
    if data is None:
        return {}
    try:
        value = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ReleaseRefused(f"{path}", expected="YAML", got=str(error).splitlines()[0][:80]) from error
    return value if isinstance(value, dict) else {}


def _sub(value: Mapping[str, object], name: str) -> dict[str, object]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
