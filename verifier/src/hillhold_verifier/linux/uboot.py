"""Boot flags in U-Boot's environment, through libubootenv's `fw_printenv` and `fw_setenv` (docs/FORMAT.md, "A Linux board").

    hillhold             1, the number of this format; without it these are not our flags
    hillhold_confirmed   the confirmed slot of each component, "0", "1" or "-", one character each
    hillhold_mark_N      what component N's other slot is marked with: SHA-256 and length, both hexadecimal
    hillhold_starts      how often the trial was started
    hillhold_failed_N    SHA-256 of component N's image whose trial failed

A change is one call of `fw_setenv`, which writes the other copy of a *redundant* environment: a cut leaves the old flags or the new. What
runs is what the boot script put on the kernel's command line: `hillhold.slots=`, one digit for each component.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hillhold_verifier.errors import ConfirmError, MisuseError, OperationalError, UnprovisionedError
from hillhold_verifier.slots import BootFlags, Mark

FORMAT: Final = "1"
TIMEOUT: Final = 30
"""Seconds that a tool may take: a worn flash is slow."""
_SLOT: Final = {"0": 0, "1": 1, "-": None}
_SLOTS: Final = re.compile(r"hillhold\.slots=([01]+)")


class UBootEnvironment:
    """U-Boot's environment; `config` is libubootenv's (`/etc/fw_env.config`)."""

    def __init__(self, config: Path) -> None:
        self._config = config

    def read(self) -> dict[str, str]:
        """Return all variables.

        Raises:
            OperationalError: the tool failed, or took a default environment for one that it could not read.
        """
        done = self._run("fw_printenv")
        lines = (line.partition("=") for line in done.splitlines())
        return {name: value for name, _, value in lines}

    def write(self, values: Mapping[str, str | None]) -> dict[str, str]:
        """Change variables (None removes one), all in one write; read back and return all; raises `OperationalError`."""
        script = "".join(f"{name}={value or ''}\n" for name, value in values.items())
        self._run("fw_setenv", "-s", "-", text=script)
        found = self.read()
        for name, value in values.items():
            if found.get(name) != value:
                raise OperationalError(
                    f"U-Boot environment {name}: expected {value or 'none'}, got {found.get(name) or 'none'}"
                    " (Hillhold needs the fw_setenv of libubootenv)"
                )
        return found

    def _run(self, tool: str, *arguments: str, text: str = "") -> str:
        try:
            done = subprocess.run(  # noqa: S603 - a fixed name, no shell
                [tool, "-c", str(self._config), *arguments],
                input=text,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
                check=False,
            )
        except FileNotFoundError:
            raise OperationalError(f"{tool}: not installed (it is part of libubootenv)") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OperationalError(f"{tool}: {error}") from None
        # What cannot be read is never taken for a default.
        if done.returncode or "default" in done.stderr:
            words = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise OperationalError(f"U-Boot environment ({tool} -c {self._config}): {words}")
        return done.stdout


class UBootControl:
    """`slots.BootControl` over U-Boot's environment, for a device with so many components.

    It reads the environment once, and again what it wrote: nobody else changes it while the device's state is held (`files.exclusive`).

    Args:
        command_line: where the kernel's command line is read.
    """

    def __init__(
        self, environment: UBootEnvironment, components: int, command_line: Path = Path("/proc/cmdline")
    ) -> None:
        self._environment, self._components, self._command_line = environment, components, command_line
        self._values: dict[str, str] | None = None

    def provision(self, confirmed: Sequence[int | None]) -> None:
        """Write the first flags, whatever there was; raises `OperationalError`."""
        slots = "".join("-" if slot is None else str(slot) for slot in confirmed)
        first = {**self._unmarked(), **self._none_failed(), "hillhold": FORMAT, "hillhold_confirmed": slots}
        self._values = self._environment.write(first)

    def flags(self, component: int = 0) -> BootFlags:
        """Read the flags of a component.

        Raises:
            OperationalError: environment or command line cannot be read.
            UnprovisionedError: the environment holds no flags, or some that are not ours.
        """
        if not 0 <= component < self._components:
            raise MisuseError(f"component {component} of a board that has {self._components}")
        values, running = self._read(), self._running()
        mark, failed = values.get(_mark(component)), values.get(_failed(component))
        confirmed = _SLOT[values["hillhold_confirmed"][component]]
        runs = int(running[component]) if running else None
        return BootFlags(
            running=runs,
            confirmed=confirmed,
            mark=Mark(bytes.fromhex(mark[:64]), int(mark[65:], 16)) if mark else None,
            trial=runs is not None and runs != confirmed,
            starts=int(values.get("hillhold_starts", "0")),
            failed=bytes.fromhex(failed) if failed else None,
        )

    def set_marks(self, marks: Mapping[int, Mark]) -> None:
        """Ask for one trial, at the next boot; raises as `flags`, and `MisuseError` during a trial."""
        if any(flags.trial for flags in self._every()):
            raise MisuseError("a trial is under way: nothing else can be marked")
        marked = {_mark(number): f"{mark.sha256.hex()} {mark.length:x}" for number, mark in marks.items()}
        self._write({**self._unmarked(), **marked})

    def clear_marks(self) -> None:
        """Withdraw that request; during a trial, end it at the next boot; raises as `flags`."""
        self._write(self._unmarked())

    def confirm(self) -> None:
        """Make the running images the confirmed ones.

        Raises:
            ConfirmError: nothing is known to run, or the trial was ended.
        """
        every = self._every()
        if any(flags.running is None for flags in every):
            raise ConfirmError("confirmation", expected="hillhold.slots= on the kernel's command line", got="none")
        if any(flags.trial and flags.mark is None for flags in every):
            raise ConfirmError("confirmation", expected="a trial whose mark still stands", got="one that was cleared")
        slots = "".join(str(flags.running) for flags in every)
        self._write({**self._unmarked(), "hillhold_confirmed": slots})

    def reject(self) -> None:
        """The running images' own test failed: end their trial, and remember their hashes as failed.

        Raises:
            ConfirmError: no trial is under way.
        """
        tried = {
            _failed(number): flags.mark.sha256.hex()
            for number, flags in enumerate(self._every())
            if flags.trial and flags.mark
        }
        if not tried:
            raise ConfirmError("rejection", expected="an image on trial", got="none")
        self._write({**self._unmarked(), **tried})

    def acknowledge_failure(self) -> None:
        """Forget what failed; raises as `flags`."""
        self._write(self._none_failed())

    def accept_root(self, data: bytes) -> None:
        """Nothing to do: this bootloader has no list of image keys."""

    # --- inside -------------------------------------------------------------------------------------------------------

    def _every(self) -> list[BootFlags]:
        return [self.flags(number) for number in range(self._components)]

    def _unmarked(self) -> dict[str, str | None]:
        return {**{_mark(number): None for number in range(self._components)}, "hillhold_starts": None}

    def _none_failed(self) -> dict[str, str | None]:
        return {_failed(number): None for number in range(self._components)}

    def _write(self, values: Mapping[str, str | None]) -> None:
        held = self._read()
        if any(held.get(name) != value for name, value in values.items()):
            self._values = None  # what a failed write left is known only after a look
            self._values = self._environment.write(values)

    def _read(self) -> dict[str, str]:
        if self._values is None:
            self._values = self._environment.read()
        values, ours = self._values, {"hillhold": FORMAT, "hillhold_confirmed": f"[01-]{{{self._components}}}"}
        forms = {**ours, "hillhold_starts": "[0-9]{1,3}"}
        for number in range(self._components):
            forms |= {_mark(number): "[0-9a-f]{64} [0-9a-f]{1,16}", _failed(number): "[0-9a-f]{64}"}
        for name, form in forms.items():
            # Other flags than ours are never taken for none.
            if (name in values or name in ours) and not re.fullmatch(form, values.get(name, "")):
                what = f"{name} in U-Boot's environment"
                raise UnprovisionedError(what, expected=f"the form {form}", got=values.get(name, "none")[:80])
        return values

    def _running(self) -> str:
        """The running slots, or nothing where the boot script did not say."""
        try:
            found = _SLOTS.findall(self._command_line.read_text(errors="replace"))
        except OSError as error:
            raise OperationalError(f"{self._command_line}: {error.strerror}") from None
        return found[-1] if found and len(found[-1]) == self._components else ""


def _mark(component: int) -> str:
    return f"hillhold_mark_{component}"


def _failed(component: int) -> str:
    return f"hillhold_failed_{component}"
