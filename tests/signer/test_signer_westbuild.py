"""Build folders as Zephyr and sysbuild leave them: which images are found, and what is known of their source."""

from __future__ import annotations

from pathlib import Path

import pytest
from intelhex import IntelHex

from hillhold_signer.errors import FileRefused, ReleaseRefused
from hillhold_signer.westbuild import MAX_INFO, built_from, choose_images, find_images
from workshop import image

APP, RADIO = image("1.0.0"), image("2.0.0", 1, 7)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def domain(folder: Path, data: bytes | None, *, suffix: str = "bin", config: str = "", stem: str = "zephyr") -> Path:
    """The `zephyr/` folder of one build."""
    place = folder / "zephyr"
    place.mkdir(parents=True)
    (place / ".config").write_text(f'# CONFIG_X is not set\nCONFIG_KERNEL_BIN_NAME="{stem}"\n{config}')
    (place / f"{stem}.bin").write_bytes(b"not signed")
    if data is not None and suffix == "bin":
        (place / f"{stem}.signed.bin").write_bytes(data)
        (place / f"{stem}.signed.confirmed.bin").write_bytes(data + bytes(100))
    elif data is not None:
        written = IntelHex()
        written.puts(0xC000, data)
        written.write_hex_file(str(place / f"{stem}.signed.hex"))
    return place


def sysbuild(folder: Path, *names: str) -> Path:
    """What share/sysbuild/cmake/domains.cmake writes; its folders are those of another machine."""
    folder.mkdir(exist_ok=True)
    text = "default: pump\nbuild_dir: /ci/build\ndomains:"
    text += "".join(f"\n  - name: {name}\n    build_dir: /ci/build/{name}" for name in names)
    (folder / "domains.yaml").write_text(text + "\nflash_order:\n  - mcuboot\n")
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """An application, a network core and the bootloader."""
    folder = sysbuild(tmp_path / "build", "mcuboot", "ipc_radio", "pump")
    domain(folder / "mcuboot", b"the bootloader", config="CONFIG_MCUBOOT=y\n")
    domain(folder / "pump", APP)
    domain(folder / "ipc_radio", RADIO)
    domain(folder / "left-over", RADIO)
    return folder


@pytest.mark.parametrize("suffix", ["bin", "hex"])
@pytest.mark.parametrize("stem", ["zephyr", "pump-fw"])
def test_a_plain_build_has_one_image(tmp_path: Path, suffix: str, stem: str) -> None:
    domain(tmp_path / "build", APP, suffix=suffix, stem=stem)
    (found,) = choose_images(tmp_path / "build", {})
    assert (found.component, found.data, found.source) == ("app", APP, None)
    assert found.path.name == f"{stem}.signed.{suffix}"
    (other,) = choose_images(tmp_path / "build", {"main": None})
    assert other.component == "main"


def test_of_sysbuild_the_domains_count_without_the_bootloader(pair: Path) -> None:
    assert list(find_images(pair)) == ["pump", "ipc_radio"]
    found = choose_images(pair, {"app": "pump", "radio": "ipc_radio"})
    assert [(item.component, item.data) for item in found] == [("app", APP), ("radio", RADIO)]


def test_several_images_are_not_guessed_at(pair: Path) -> None:
    for components in ({}, {"app": None}, {"app": None, "radio": None}):
        with pytest.raises(ReleaseRefused, match="images: expected one, got pump, ipc_radio") as refused:
            choose_images(pair, components)
        assert refused.value.hint
        assert "--component NAME=DOMAIN" in refused.value.hint
    with pytest.raises(ReleaseRefused, match=r"a domain of the build folder: pump, ipc_radio, got 'mcuboot'"):
        choose_images(pair, {"app": "mcuboot"})
    with pytest.raises(ReleaseRefused, match="an image of its own for each"):
        choose_images(pair, {"app": "pump", "radio": "pump"})


def test_a_file_stands_for_an_image_that_the_folder_keeps_elsewhere(pair: Path) -> None:
    merged = pair / "signed_by_mcuboot_and_b0_ipc_radio.bin"
    merged.write_bytes(RADIO)
    found = choose_images(pair, {"app": "pump", "radio": str(merged)})
    assert found[1].path == merged
    assert choose_images(None, {"radio": str(merged)})[0].data == RADIO
    with pytest.raises(ReleaseRefused, match="a domain of the build folder: none"):
        choose_images(None, {"radio": "ipc_radio"})


def test_a_folder_without_a_signed_image_is_refused_with_the_settings_that_sign(tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match="expected a west build folder, got neither"):
        find_images(tmp_path)
    domain(tmp_path / "build", None)
    with pytest.raises(ReleaseRefused, match=r"zephyr.signed.bin or .hex, got none in app") as refused:
        find_images(tmp_path / "build")
    assert refused.value.hint
    assert "CONFIG_MCUBOOT_SIGNATURE_KEY_FILE" in refused.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "domains: [{name: ../../etc}]",
        "domains: [{name: /etc}]",
        "domains: [{name: [a]}]",
        "domains: [pump]",
        "domains: {}",
        "domains: [{name: .}]",
        "a: [",
        "!!python/object/apply:os.system [id]",
    ],
)
def test_a_domains_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    domain(tmp_path, APP)
    (tmp_path / "domains.yaml").write_text(text)
    with pytest.raises(ReleaseRefused, match=r"domains.yaml"):
        find_images(tmp_path)


def test_a_name_that_leads_out_of_the_folder_and_a_file_without_end_are_refused(tmp_path: Path) -> None:
    place = domain(tmp_path, APP)
    (place / ".config").write_text('CONFIG_KERNEL_BIN_NAME="../../zephyr"\n')
    with pytest.raises(ReleaseRefused, match="CONFIG_KERNEL_BIN_NAME"):
        find_images(tmp_path)
    (tmp_path / "domains.yaml").write_bytes(b"#" * (MAX_INFO + 1))
    with pytest.raises(FileRefused):
        find_images(tmp_path)


# --- source -----------------------------------------------------------------------------------------------------------


def meta(
    place: Path, *, source: str = "/ci/ws/pump-app/app", revision: str | None = COMMIT, stem: str = "zephyr"
) -> None:
    """`zephyr.meta` and `build_info.yml`, as scripts/zephyr_module.py and cmake/modules/yaml.cmake write them."""
    stated = "null" if revision is None else revision
    (place / f"{stem}.meta").write_text(
        "modules:\n- {name: mcuboot, path: /ci/ws/bootloader/mcuboot, revision: aa}\n"
        f"west:\n  manifest: /ci/ws/pump-app/west.yml\n  projects:\n"
        f"  - path: /ci/ws\n    revision: {'f' * 40}\n"
        f"  - path: /ci/ws/pump-app\n    revision: {stated}\n"
        f"  - path: /ci/ws/zephyr\n    revision: {'b' * 40}\n"
        f"workspace: {{dirty: false, extra: false, off: false}}\n"
        f"zephyr: {{path: /ci/ws/zephyr, revision: {'c' * 40}}}\n"
    )
    (place.parent / "build_info.yml").write_text(
        f"version: 0.1.0\ncmake:\n  application:\n    source-dir: '{source}'\n  board:\n    name: nrf52840dk\n"
    )


@pytest.mark.parametrize("revision", [COMMIT, f"{COMMIT}-dirty", f"{COMMIT}-dirty-off"])
def test_the_revision_is_that_of_the_project_which_holds_the_application(tmp_path: Path, revision: str) -> None:
    place = domain(tmp_path, APP)
    meta(place, revision=revision)
    assert built_from(place) == f"pump-app@{revision}"
    assert choose_images(tmp_path, {})[0].source == f"pump-app@{revision}"


def test_what_does_not_state_a_revision_has_none(tmp_path: Path) -> None:
    place = domain(tmp_path, APP)
    assert built_from(place) is None
    meta(place, source="/src/pump-app")
    assert built_from(place) is None, "outside of the workspace"
    meta(place, source="/ci/ws/pump-application")
    assert built_from(place) == f"ws@{'f' * 40}", "a name that starts alike is not inside"
    meta(place, revision=None)
    assert built_from(place) == f"ws@{'f' * 40}"
    meta(place)
    (place.parent / "build_info.yml").unlink()
    assert built_from(place) is None, "nobody says which project it is"
    meta(place)
    (place / "zephyr.meta").write_text("west: {projects: [1, {path: 2}]}\nzephyr: 3\n")
    assert built_from(place) is None
    (place / "zephyr.meta").write_text("west: [")
    with pytest.raises(ReleaseRefused, match="expected YAML"):
        built_from(place)
