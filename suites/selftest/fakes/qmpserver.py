"""A monitor that speaks QMP on a unix socket, as much as power control says to one."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_GREETING = {"QMP": {"version": {"qemu": {"major": 9, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}


class QmpServer:
    """One client at a time, as QEMU. `quit` ends it, with an answer or without."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.status = "running"
        self.orders: list[str] = []
        self.obeys = True
        self.greets = True
        self.answers_quit = True
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(4)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                plug, _ = self._socket.accept()
            except OSError:
                return
            with plug, contextlib.suppress(OSError):
                if not self._talk(plug):
                    return self.stop()

    def _talk(self, plug: socket.socket) -> bool:
        """Until the client has gone; False after a `quit`."""
        if self.greets:
            plug.sendall(json.dumps(_GREETING).encode() + b"\r\n")
        for order in _orders(plug):
            name = order["execute"]
            if name not in ("qmp_capabilities", "query-status"):
                self.orders.append(name)
            ends = name == "quit" and self.obeys
            if ends and not self.answers_quit:
                return False
            answer: dict[str, object] = {
                "return": {"status": self.status, "running": True} if name == "query-status" else {}
            }
            if name == "system_reset" and not self.obeys:
                answer = {"error": {"class": "GenericError", "desc": "not \x1b[31mnow"}}
            echo = {"id": order["id"]} if "id" in order else {}
            plug.sendall(json.dumps({**answer, **echo}).encode() + b"\r\n")
            if ends:
                return False
        return True


def _orders(plug: socket.socket) -> Iterator[dict[str, Any]]:
    """JSON texts one behind the other; clients may leave out the line end."""
    text = ""
    while data := plug.recv(4096):
        text += data.decode()
        while text := text.lstrip():
            try:
                order, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                break
            text = text[end:]
            yield order
