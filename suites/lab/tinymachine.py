"""A program that stands for a machine: it counts its boots and has a serial line. Its end is the machine's power off.

Usage: tinymachine.py, in a directory of its own. `boots` there gets a line for each start; whatever is appended to
`say` goes out on the serial line, the Unix socket `serial.sock` with one listener.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from pathlib import Path
from typing import BinaryIO

LINE = "serial.sock"


def main() -> None:
    with Path("boots").open("a") as boots:
        boots.write(f"{os.getpid()}\n")
    say = Path("say")
    say.touch()
    Path(LINE).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server, say.open("rb") as text:
        server.bind(LINE)
        server.listen()
        text.seek(0, os.SEEK_END)  # what was said before this boot is over
        while True:
            line, _ = server.accept()
            with line, contextlib.suppress(OSError):  # the listener went away
                line.sendall(f"boot {len(Path('boots').read_text().split())}\r\n".encode())
                _speak(line, text)


def _speak(line: socket.socket, text: BinaryIO) -> None:
    while not select.select([line], [], [], 0.02)[0] or line.recv(1024):
        line.sendall(text.read())


if __name__ == "__main__":
    main()
