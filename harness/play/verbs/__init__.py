"""The steps scenarios are made of. Each does one thing to the host and notes how it went."""

from __future__ import annotations

from collections.abc import Callable

from harness.play.stage.stage import Stage
from harness.play.verbs import device, devicemodel, ends, guest, hostreset, nextguest, plug, rounds
from harness.scenario.spec import Verb
from harness.xen.toolstack.xl import Signal

VERBS: dict[Verb, Callable[[Stage], None]] = {
    Verb.UNLOAD_DRIVER: guest.unload_driver,
    Verb.LOAD_DRIVER: guest.load_driver,
    Verb.KILL_DEVICE_MODEL: lambda stage: devicemodel.send(stage, Verb.KILL_DEVICE_MODEL, Signal.KILL),
    Verb.SEGFAULT_DEVICE_MODEL: lambda stage: devicemodel.send(stage, Verb.SEGFAULT_DEVICE_MODEL, Signal.SEGV),
    Verb.ABORT_DEVICE_MODEL: lambda stage: devicemodel.send(stage, Verb.ABORT_DEVICE_MODEL, Signal.ABRT),
    Verb.STOP_DEVICE_MODEL: lambda stage: devicemodel.send(stage, Verb.STOP_DEVICE_MODEL, Signal.STOP),
    Verb.DECODE_OFF: lambda stage: device.decode(stage, Verb.DECODE_OFF, "0:2"),
    Verb.GUEST_CLEARS_ENABLE: guest.clears_enable,
    Verb.DECODE_ON: lambda stage: device.decode(stage, Verb.DECODE_ON, "2:2"),
    Verb.CLEAR_MASKALL: device.clear_maskall,
    Verb.GUEST_SETS_MASKALL: guest.sets_maskall,
    Verb.START_LOAD: guest.start_load,
    Verb.START_CHURN: guest.start_churn,
    Verb.ATTACH: plug.attach,
    Verb.DETACH: lambda stage: plug.detach(stage, Verb.DETACH, force=False),
    Verb.FORCE_DETACH: lambda stage: plug.detach(stage, Verb.FORCE_DETACH, force=True),
    Verb.UNBIND_IN_USE: device.unbind_in_use,
    Verb.LOSE_BACKEND: device.lose_backend,
    Verb.SAVE: guest.save,
    Verb.CRASH_AND_STAY: ends.crash_and_stay,
    Verb.SHUT_DOWN: lambda stage: ends.by_guest(stage, Verb.SHUT_DOWN, "poweroff -f"),
    Verb.POWER_OFF_WITH_MSIX_ON: lambda stage: ends.by_guest(stage, Verb.POWER_OFF_WITH_MSIX_ON, "power_off_by_hand"),
    Verb.REBOOT_GUEST: lambda stage: ends.by_guest(stage, Verb.REBOOT_GUEST, "reboot -f"),
    Verb.CRASH: lambda stage: ends.by_guest(stage, Verb.CRASH, "echo c > /proc/sysrq-trigger"),
    Verb.TRIPLE_FAULT: lambda stage: ends.by_guest(stage, Verb.TRIPLE_FAULT, "reboot -f"),
    Verb.DESTROY: ends.destroy,
    Verb.DESTROY_WITH_DECODE_OFF: ends.destroy_with_decode_off,
    Verb.DESTROY_TO_ZOMBIE: ends.destroy_to_zombie,
    Verb.RESET_HOST_MASKED: hostreset.reset_masked,
    Verb.ASSIGN: nextguest.assign,
    Verb.BUS_RESET: device.bus_reset,
    Verb.REBIND: device.rebind,
    Verb.BIND_AGAIN: device.bind_again,
    Verb.SAME_GUEST: nextguest.same,
    Verb.OTHER_GUEST: lambda stage: nextguest.other(stage, Verb.OTHER_GUEST),
    Verb.PV_GUEST: lambda stage: nextguest.other(stage, Verb.PV_GUEST),
    Verb.HVM_GUEST: lambda stage: nextguest.other(stage, Verb.HVM_GUEST),
    Verb.BACK_TO_DOM0: device.back_to_dom0,
    Verb.ROUNDS: lambda stage: rounds.again(stage, VERBS),
    Verb.KILL_STOPPED_DEVICE_MODEL: devicemodel.kill_stopped,
    Verb.DESTROY_FORMER: ends.destroy_former,
}
"""Every verb but CREATE, with which a scenario begins (harness/play/run.py)."""
