"""A device adapter for a board on a serial port with a debug probe: copy it, and change it to your board.

    PORT=/dev/ttyACM0 hillhold-lab attack --adapter adapter.py

The line is a serial port. A probe resets the board and reads its flash by pyOCD (https://pyocd.io), without the board's update agent. A
USB hub that can switch its ports gives and takes the power by uhubctl (https://github.com/mvp/uhubctl). Leave out what your board has not.
"""

import os
import subprocess
import tempfile
from pathlib import Path

import serial

SLOT = 0x0000C000  # where the board runs its image
LENGTH = 0x0006E000  # bytes of that place
HUB, SOCKET = "1-1", "2"  # as uhubctl names them

port = serial.serial_for_url(os.environ["PORT"], baudrate=115200, timeout=0)


def send(data):
    port.write(data)


def receive(timeout):
    port.timeout = timeout
    first = port.read(1)
    port.timeout = 0
    return first + port.read(4096) if first else b""


def reset():
    subprocess.run(["pyocd", "reset"], check=True, timeout=30)


def read_image():
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.bin"
        save = f"savemem {SLOT:#x} {LENGTH:#x} {file}"
        subprocess.run(["pyocd", "commander", "-c", save], check=True, timeout=120)
        return file.read_bytes()


def power(on):
    subprocess.run(["uhubctl", "-l", HUB, "-p", SOCKET, "-a", "on" if on else "off"], check=True, timeout=30)


def close():
    port.close()
