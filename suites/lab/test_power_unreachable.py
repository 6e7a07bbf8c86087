"""Redfish over https with a certificate of its own, and controllers that are not there: told in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import PowerFailed
from harness.lab.power.base import PowerState
from harness.lab.power.redfish import RedfishPower
from suites.lab.bench import libvirt_bench, redfish_emulator
from suites.selftest.fakes.certificate import certificate

HOST = "bench"
PASSWORD = "r3dfish-Zebra"  # noqa: S105 - of the emulator


def test_https_and_every_way_not_to_be_there(tmp_path: Path) -> None:
    pem, secret = certificate(tmp_path), tmp_path / "password"
    secret.touch(mode=0o600)
    secret.write_text(f"{PASSWORD}\n")
    with libvirt_bench() as bench, redfish_emulator(tmp_path / "emulator", bench, pem, "lab", PASSWORD) as url:
        system = f"/redfish/v1/Systems/{bench.uuid}"
        entry = RedfishPower(kind="redfish", url=url, user="lab", password=f"file:{secret}", system=system, ca_file=pem)
        assert entry.control(HOST, Path()).state(Deadline.after(20)) is PowerState.OFF
        for wrong in (
            bench.entry.model_copy(update={"uri": f"qemu+unix:///session?socket={tmp_path}/none"}),
            bench.entry.model_copy(update={"domain": "nobody"}),
            entry.model_copy(update={"url": "https://127.0.0.1:9"}),
            entry.model_copy(update={"system": "/redfish/v1/Systems/none"}),
            entry.model_copy(update={"ca_file": None}),  # nobody vouched for it
        ):
            with pytest.raises(PowerFailed) as caught:
                wrong.control(HOST, Path()).state(Deadline.after(3))
            assert caught.value.message.startswith(HOST) and PASSWORD not in str(caught.value)
