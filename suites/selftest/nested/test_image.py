"""What an image is built with: its recipe, its keys, and the programs of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, UsageError
from harness.base.progress import Progress
from harness.host.stacks import stack, stacks
from harness.nested import prerequisites, rootfs
from harness.nested.apt_sources import AptMirrors
from harness.nested.image import ImageRecipe


class Silent:
    @contextlib.contextmanager
    def phase(self, name: str, expected: float | None = None) -> Iterator[None]:
        yield

    def note(self, text: str) -> None:
        pass


def recipe(name: str, mirrors: AptMirrors | None = None) -> ImageRecipe:
    progress: Progress = Silent()  # type: ignore[assignment]  # phases are all a recipe needs
    return ImageRecipe(stack(name), mirrors, progress, Deadline.after(1), Path("log"))


def test_the_digest_is_the_content_and_not_the_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe("trixie").digest
    assert recipe("trixie", AptMirrors("http://mirror.example.test/debian")).digest == before
    assert recipe("bookworm").digest != before
    more = replace(recipe("trixie"), stack=stack("trixie").model_copy(update={"packages": ("one-more",)}))
    assert more.digest != before
    monkeypatch.setitem(rootfs.FILES, "/etc/hostname", (0o644, "another\n"))
    assert recipe("trixie").digest != before


def test_packages_of_the_backports_make_another_image() -> None:
    assert recipe("trixie+qemu11").digest != recipe("trixie").digest


@pytest.mark.parametrize("name", list(stacks()))
def test_libvirt_is_there_and_costs_no_boot_time(name: str) -> None:
    assert "libvirt-daemon-driver-xen" in stack(name).packages
    assert rootfs.LINKS["/etc/systemd/system/sockets.target.wants/libvirtd.socket"] == "../libvirtd.socket"
    assert "[Install]" not in rootfs.FILES["/etc/systemd/system/libvirtd.service"][1]
    assert "multi-user.target.wants/libvirtd.service" in rootfs.FILES[rootfs.SETUP][1]


def test_keys_are_fresh_and_in_openssh_format() -> None:
    one, two = rootfs.KeyPair.fresh("a"), rootfs.KeyPair.fresh("a")
    assert one.public != two.public
    assert one.public.startswith("ssh-ed25519 ")
    assert one.private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")


def test_a_missing_program_is_named_with_the_command_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        prerequisites, "PREREQUISITES", (prerequisites.Prerequisite("some-package", "no-such-program", "a test"),)
    )
    progress: Progress = Silent()  # type: ignore[assignment]  # phases are all it needs
    assert [need.package for need in prerequisites.missing()] == ["some-package"]
    with pytest.raises(UsageError, match="sudo apt-get install --yes --no-install-recommends some-package"):
        prerequisites.install(progress, root=False)


class TestLibvirtPython:
    """Built where it is missing, against Debian's library."""

    @pytest.fixture
    def ran(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        monkeypatch.setattr(prerequisites, "PREREQUISITES", ())
        monkeypatch.setattr(prerequisites, "LIBVIRT", ())
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        return []

    def test_it_is_installed_as_the_package_wants_it(self, ran: list[list[str]]) -> None:
        progress: Progress = Silent()  # type: ignore[assignment]  # phases are all it needs
        assert prerequisites.install_libvirt(progress, run=lambda argv, **_: ran.append(argv))
        ((*pip, wanted),) = ran
        assert pip[1:4] == ["-m", "pip", "install"]
        assert wanted.startswith("libvirt-python")
        assert ";" not in wanted

    def test_what_cannot_be_built_is_said_with_the_command(self, ran: list[list[str]]) -> None:
        def failing(argv: list[str], **_: object) -> None:
            raise CommandFailed("pip: status 1: error: externally-managed-environment")

        progress: Progress = Silent()  # type: ignore[assignment]
        with pytest.raises(UsageError, match=r"externally-managed.*type: .*pip install.*libvirt-python"):
            prerequisites.install_libvirt(progress, run=failing)

    def test_a_library_that_is_there_is_left_alone(self, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        progress: Progress = Silent()  # type: ignore[assignment]
        assert not prerequisites.install_libvirt(progress, run=lambda argv, **_: ran.append(argv))
        assert ran == []
