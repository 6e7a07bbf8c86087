"""A developer's own kernel, for dom0 or for the guests: whether it can do what it must, before anything boots."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.base.errors import ParseError, UsageError
from harness.guest.drivers import Driver
from harness.guest.initramfs import PV_FRONTEND
from harness.guest.kernel import KernelImage, Modules, options
from harness.nested.rootfs import INIT_MODULES, OFTEN_BUILT_IN

_HINT = "'maskall nested kernel-config' prints what it takes"

# Options of Linux, and the module that each may be instead of built in; "" where it must be.
_EVERYWHERE = {"BLK_DEV_INITRD": "", "DEVTMPFS": "", "PCI_MSI": "", "HVC_XEN": "", "VIRTIO_PCI": "virtio_pci"}
_DOM0 = {
    **_EVERYWHERE,
    "XEN_DOM0": "",
    "XEN_BACKEND": "",
    "XEN_SYS_HYPERVISOR": "",
    "XEN_SYMS": "",  # /proc/xen/xensyms, where mutants and traces find Xen's functions
    "KALLSYMS": "",
    "XENFS": "xenfs",
    "XEN_PRIVCMD": "xen_privcmd",
    "XEN_DEV_EVTCHN": "xen_evtchn",
    "XEN_GNTDEV": "xen_gntdev",
    "XEN_PCIDEV_BACKEND": "xen_pciback",
    "VIRTIO_BLK": "virtio_blk",
    "VIRTIO_NET": "virtio_net",
    "EXT4_FS": "ext4",
}
_GUEST = {**_EVERYWHERE, "XEN": "", "HVC_XEN_FRONTEND": ""}  # a PV guest takes XEN_PV and XEN_PCIDEV_FRONTEND too
_TAKEN_TOO = ("xen_gntalloc", "xen_blkback", "xen_netback", "xen_acpi_processor", "autofs4", "tun", "bridge", "loop")


@dataclass(frozen=True)
class OwnKernel:
    """`modules` is None for one that has everything built in; `sha256` is the image's."""

    path: Path
    image: KernelImage
    config: Mapping[str, str]
    modules: Modules | None
    sha256: str
    needs: Mapping[str, str] = field(default_factory=lambda: _DOM0)

    @classmethod
    def of_dom0(cls, path: Path, modules: Path | None) -> OwnKernel:
        """UsageError, in one line with the remedy, for one that cannot be dom0's."""
        return _read(path, _changed(path), modules, "--dom0", tuple(_DOM0.items()))

    @classmethod
    def of_guest(cls, path: Path, modules: Path | None) -> OwnKernel:
        """UsageError for one that cannot be a guest's."""
        return _read(path, _changed(path), modules, "--guest", tuple(_GUEST.items()))

    def drives(self, driver: Driver) -> bool:
        """Whether it has what this driver's modules are."""
        return all(self._has(option) for option in driver.config)

    def fit(self, drivers: Iterable[Driver]) -> None:
        """UsageError when it lacks one of these."""
        for driver in drivers:
            if lacking := [one for one in driver.config if not self._has(one)]:
                raise UsageError(f"{self.path} is a kernel without CONFIG_{lacking[0]}", hint=_HINT)
            if self.modules is not None:
                self.modules.loading(self._modules_of(driver))

    def _has(self, option: str) -> bool:
        return self.config.get(option) == "y" or (self.config.get(option) == "m" and self.modules is not None)

    def _modules_of(self, driver: Driver) -> list[str]:
        return driver.modules if any(self.config.get(one) == "m" for one in driver.config) else []

    def staged(self, drivers: Collection[Driver]) -> dict[str, bytes]:
        """All modules that a host of ours loads, as `Modules.loading`; where it may do without, those there are."""
        if self.modules is None:
            return {}
        names = [module for option, module in self.needs.items() if module and self.config.get(option) == "m"]
        names += [module for driver in drivers for module in self._modules_of(driver)]
        names += [name for name in (*_TAKEN_TOO, *OFTEN_BUILT_IN) if name in self.modules.files]
        return self.modules.loading(names)

    def initial(self) -> dict[str, bytes]:
        """What it loads before it has its root."""
        if self.modules is None:
            return {}
        known = self.modules.files
        return self.modules.loading(one for one in INIT_MODULES if one.replace("-", "_") in known)

    def guest_modules(self, driver: Driver) -> tuple[tuple[str, bytes], ...]:
        """Those of a guest with this driver, in loading order; a PV guest sees its devices through a frontend."""
        if self.modules is None:
            return ()
        wanted = [PV_FRONTEND] if self.config.get("XEN_PCIDEV_FRONTEND") == "m" else []
        return tuple(self.modules.loading([*wanted, *self._modules_of(driver)]).items())


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        hint = "give the bzImage of a build"
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=hint) from error


@functools.cache  # it takes a second to unpack, and is asked when options are checked and when the lab is made
def _read(path: Path, changed: int, modules: Path | None, flag: str, needs: tuple[tuple[str, str], ...]) -> OwnKernel:
    del changed
    try:
        data = path.read_bytes()
        image = KernelImage.parse(data, str(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="give the bzImage of a build") from error
    except ParseError as error:
        raise UsageError(error.message, hint="'make bzImage' leaves arch/x86/boot/bzImage") from error
    config = image.config if image.config is not None else _beside(path, image.release)
    if config is None:
        raise UsageError(
            f"{path} does not say how it was configured",
            hint=f"put its .config beside it as config-{image.release}, or build it with CONFIG_IKCONFIG=y",
        )
    if missing := [one for one, module in needs if config.get(one) not in (("y", "m") if module else ("y",))]:
        raise UsageError(f"{path} is a kernel without {', '.join(f'CONFIG_{one}' for one in missing)}", hint=_HINT)
    loaded = [(option, module) for option, module in needs if module and config[option] == "m"]
    if modules is None and loaded:
        raise UsageError(
            f"{path} has CONFIG_{loaded[0][0]} as a module, and no modules are given",
            hint=f"name the lib/modules/{image.release} of its build with {flag}-modules",
        )
    tree = Modules.find(modules, image.release) if modules is not None else None
    if tree is not None:
        tree.loading(module for _, module in loaded)
    return OwnKernel(path, image, config, tree, hashlib.sha256(data).hexdigest(), dict(needs))


def _beside(path: Path, release: str) -> Mapping[str, str] | None:
    """What it was configured with, from where a build or a package puts that; None: not there."""
    folder = path.parent
    places = [folder / f"config-{release}", folder / "config", folder / ".config"]
    if folder.parts[-3:] == ("arch", "x86", "boot"):
        places.append(folder.parents[2] / ".config")
    found = next((one for one in places if one.is_file()), None)
    return None if found is None else options(found.read_text(errors="replace"))


def fragment(drivers: Iterable[Driver]) -> str:
    """What a kernel takes, for dom0 and for the guests, as merge_config.sh takes it: built in, so without modules."""
    wanted = [
        *_DOM0,
        *_GUEST,
        "XEN_PV",
        "XEN_PCIDEV_FRONTEND",
        *(one for driver in drivers for one in driver.config),
        "IKCONFIG",
    ]
    return "".join(f"CONFIG_{one}=y\n" for one in dict.fromkeys(wanted))
