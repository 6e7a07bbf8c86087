"""A management controller that speaks as much Redfish as power control needs; lies and hangs where a test asks."""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from suites.selftest.fakes.patience import FOREVER

SYSTEM = "/redfish/v1/Systems/1"
_SESSIONS = "/redfish/v1/SessionService/Sessions"
_RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
_TOKEN = "token-1"  # noqa: S105


class RedfishServer:
    """`power` is the PowerState it reports; `between` are reported once each before that, after an order."""

    def __init__(self, user: str, password: str, certificate: Path | None = None) -> None:
        self.user, self.password = user, password
        self.power = "On"
        self.between: list[str] = []
        self.allowed = ["On", "ForceOff", "ForceRestart", "PowerCycle"]
        self.orders: list[str] = []
        self.obeys = True
        self.refuses: tuple[int, str] | None = None  # status and message of every answer about the system
        self.broken: bytes | None = None  # the answer about the system, whatever it may be
        self.hears = threading.Event()
        self.hears.set()
        self.logins = 0
        self.asked: list[str] = []  # every request, also where no answer follows
        self._between: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                outer.asked.append(f"GET {self.path}")
                outer._get(self)

            def do_POST(self) -> None:
                outer.asked.append(f"POST {self.path}")
                outer._post(self)

            def do_DELETE(self) -> None:
                outer.asked.append(f"DELETE {self.path}")
                outer._answer(self, 204)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # who hangs up has his reasons
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def stop(self) -> None:
        self.hears.set()
        self._server.shutdown()
        self._server.server_close()

    def _get(self, ask: BaseHTTPRequestHandler) -> None:
        self.hears.wait(FOREVER)
        if ask.path == "/redfish/v1/":
            links = {"Links": {"Sessions": {"@odata.id": _SESSIONS}}}
            service = {"SessionService": {"@odata.id": "/redfish/v1/SessionService"}}
            return self._answer(ask, 200, {"Id": "RootService", "Systems": {"@odata.id": SYSTEM}, **links, **service})
        if not self._known(ask):
            return None
        if ask.path == "/redfish/v1/SessionService":
            return self._answer(ask, 200, {"Id": "Sessions", "Sessions": {"@odata.id": _SESSIONS}})
        if ask.path != SYSTEM:
            return self._answer(ask, 404, _error("no such resource"))
        if self.refuses:
            return self._answer(ask, self.refuses[0], _error(self.refuses[1]))
        if self.broken is not None:
            return self._answer(ask, 200, self.broken)
        word = self._between.pop(0) if self._between else self.power
        reset = {"target": _RESET, "ResetType@Redfish.AllowableValues": self.allowed}
        return self._answer(
            ask, 200, {"Id": "1", "Name": "one", "PowerState": word, "Actions": {"#ComputerSystem.Reset": reset}}
        )

    def _post(self, ask: BaseHTTPRequestHandler) -> None:
        body = json.loads(ask.rfile.read(int(ask.headers["Content-Length"])))
        self.hears.wait(FOREVER)
        if ask.path == _SESSIONS:
            self.logins += 1
            if (body.get("UserName"), body.get("Password")) != (self.user, self.password):
                return self._answer(ask, 401, _error(f"no such user {body}"))
            headers = {"X-Auth-Token": _TOKEN, "Location": f"{_SESSIONS}/1"}
            return self._answer(ask, 201, {"Id": "1"}, headers)
        if not self._known(ask):
            return None
        self.orders.append(body["ResetType"])
        if self.obeys:
            self._between = list(self.between)
            self.power = {"On": "On", "ForceOn": "On", "ForceOff": "Off"}.get(body["ResetType"], self.power)
        return self._answer(ask, 204)

    def _known(self, ask: BaseHTTPRequestHandler) -> bool:
        if ask.headers.get("X-Auth-Token") == _TOKEN:
            return True
        self._answer(ask, 401, _error("log in first"))
        return False

    def _answer(
        self, ask: BaseHTTPRequestHandler, status: int, body: object = None, headers: dict[str, str] | None = None
    ) -> None:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        ask.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            ask.send_header(key, value)
        ask.send_header("Content-Length", str(len(raw)))
        ask.end_headers()
        ask.wfile.write(raw)


def _error(message: str) -> dict[str, object]:
    return {"error": {"code": "Base.1.0.GeneralError", "message": message}}
