"""Serial ports as people know them: by device, by USB serial number, by what the USB device calls itself.

`find_ports` looks; `pick` only judges, so it takes any list. What a USB device says of itself is text from elsewhere: it helps to find a
port and proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hillhold_verifier.errors import MisuseError, OperationalError

_NO_HARDWARE: Final = "0"
"""PORT_UNKNOWN: the type of a port that a Linux driver keeps ready, and behind which no UART was found."""


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A serial port of this computer; what is not known is "".

    Attributes:
        device: what the system calls it: "/dev/ttyACM0", "COM3".
        description: what it is, with the interface of a USB device that has several: "J-Link - CDC0".
        manufacturer, product: what the USB device says.
        usb_id: vendor and product, "1366:1051".
        serial_number: of the USB device; its ports share it.
    """

    device: str
    description: str = ""
    manufacturer: str = ""
    product: str = ""
    usb_id: str = ""
    serial_number: str = ""

    @property
    def name(self) -> str:
        """The device without its folder."""
        return self.device.rpartition("/")[2]

    def __str__(self) -> str:
        about = [self.description, self.serial_number and f"serial number {self.serial_number}"]
        told = ", ".join(part for part in about if part)
        return f"{self.device} ({told})" if told else self.device


def find_ports() -> list[SerialPort]:
    """Return the serial ports of this computer, in the order of their names.

    Raises:
        OperationalError: pyserial is not installed.
    """
    try:
        from serial.tools.list_ports import comports
    except ImportError:
        raise OperationalError("serial ports need pyserial: pip install 'hillhold-verifier[serial]'") from None
    found = []
    for port in sorted(comports()):
        if _is_there(port.name):
            usb_id = f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None and port.pid is not None else ""
            description = "" if port.description in ("n/a", port.name) else port.description or ""
            words = (port.manufacturer or "", port.product or "", usb_id, port.serial_number or "")
            found.append(SerialPort(port.device, description, *words))
    return found


def _is_there(name: str) -> bool:
    """Leave out what Linux keeps ready: since kernel 6.5 pyserial 3.5 takes these 32 for ports."""
    try:
        return Path("/sys/class/tty", name, "type").read_text().strip() != _NO_HARDWARE
    except OSError:
        return True


def pick(text: str, ports: Sequence[SerialPort]) -> SerialPort:
    """Return the port that a person means. Upper and lower case are alike.

    The first of these that fits any port decides: its device, the device without its folder, the serial number, a part of what it says.

    Raises:
        OperationalError: no port fits; it may come when the cable is in.
        MisuseError: several do.
    """
    wanted = text.casefold()
    for fits in _WAYS:
        found = [port for port in ports if wanted and fits(port, wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            raise MisuseError(
                f"port {text}: {len(found)} ports have this name, serial number or description",
                hint=f"say which: {listed(found)}",
            )
    raise OperationalError(
        f"port {text}: no port here has this name, serial number or description", hint=ports_hint(ports)
    )


_WAYS: Final[tuple[Callable[[SerialPort, str], bool], ...]] = (
    lambda port, wanted: wanted == port.device.casefold(),
    lambda port, wanted: wanted == port.name.casefold(),
    lambda port, wanted: wanted == port.serial_number.casefold(),
    lambda port, wanted: any(
        wanted in words.casefold() for words in (port.description, f"{port.manufacturer} {port.product}")
    ),
)


def is_place(text: str) -> bool:
    """Say whether a port is named by where it is: a URL, or a device or pseudo-terminal that exists."""
    try:
        return "://" in text or Path(text).is_char_device()
    except (OSError, ValueError):  # ValueError: a zero byte
        return False


def find_port(text: str) -> SerialPort:
    """Return the port that a person means; a URL, an existing device and any path stand for themselves.

    Raises:
        OperationalError, MisuseError: as `pick` and `find_ports`.
    """
    if is_place(text):
        return SerialPort(text)
    ports = find_ports()
    try:
        return pick(text, ports)
    except OperationalError:
        if "/" in text or "\\" in text:
            return SerialPort(text)  # whoever opens it says best why it cannot be opened
        raise


def listed(ports: Sequence[SerialPort]) -> str:
    """Return ports in one line."""
    return "; ".join(map(str, ports))


def ports_hint(ports: Sequence[SerialPort]) -> str:
    """Return what to do where a port is not there."""
    if ports:
        return f"the ports here: {listed(ports)}"
    return "there are no serial ports here: is the board plugged in, and is it a cable with data lines?"


def port_values(ports: Sequence[SerialPort]) -> dict[str, object]:
    """Return ports for JSON; null for what is not known."""
    names = ("device", "description", "manufacturer", "product", "usb_id", "serial_number")
    return {"ports": [{name: getattr(port, name) or None for name in names} for port in ports]}


def port_lines(ports: Sequence[SerialPort]) -> list[str]:
    """Return ports as a table for people."""
    if not ports:
        return ["no serial ports", f"hint: {ports_hint(ports)}"]
    head = ("device", "description", "manufacturer", "USB id", "serial number")
    rows = [head, *((p.device, p.description, p.manufacturer, p.usb_id, p.serial_number) for p in ports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
