"""The Debian mirror is the machine's own; third parties' archives and switched-off ones are passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import UsageError
from harness.nested.apt_sources import (
    VARIABLE,
    AptMirrors,
    apt_lines,
    choose,
    find_mirrors,
    from_option,
    parse_deb822,
    parse_list,
)

DEB822 = """\
# a comment
Types: deb
URIs: http://tools.example.test/debian
Suites: bookworm
Components: main
Signed-By: /etc/apt/keyrings/tools.gpg

Types: deb deb-src
URIs: http://mirror.example.test/debian
Suites: bookworm bookworm-updates
# a comment inside
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example.test/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://mirror.example.test/debian-security
Suites: bookworm-security
Components: main
"""

ONE_LINE = """\
# deb http://commented.example.test/debian bookworm main
deb-src http://source.example.test/debian bookworm main
deb cdrom:[Debian]/ bookworm main
deb [arch=amd64 signed-by=/k/tools.gpg] http://tools.example.test/debian bookworm main
deb http://tools.example.test/php bookworm main
deb http://tools.example.test/debian nodistro main
deb http://tools.example.test/debian bookworm stable
deb http://mirror.example.test/debian bookworm-updates main
deb [ arch=amd64 ] http://mirror.example.test/debian/ bullseye main contrib # ours
deb http://mirror.example.test/debian-security bullseye/updates main
"""

OURS = "http://mirror.example.test/debian"


def test_deb822() -> None:
    assert choose(parse_deb822(DEB822)) == AptMirrors(OURS, f"{OURS}-security")


def test_one_line_format() -> None:
    assert choose(parse_list(ONE_LINE)) == AptMirrors(f"{OURS}/", f"{OURS}-security")


def test_an_unusual_folder_is_debian_if_debians_key_signs_it() -> None:
    line = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://proxy.example.test/remote trixie main"
    assert choose(parse_list(line)) == AptMirrors("http://proxy.example.test/remote")


def test_another_distribution_has_no_debian_mirror() -> None:
    assert choose(parse_list("deb http://other.example.test/other noble main")) is None


def test_the_machines_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert find_mirrors(apt=tmp_path) is None
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / "debian.sources").write_text(DEB822)
    (folder / "other.list.disabled").write_text("deb http://disabled.example.test/debian bookworm main\n")
    assert find_mirrors(apt=tmp_path) == AptMirrors(OURS, f"{OURS}-security")
    (tmp_path / "sources.list").write_text("deb http://first.example.test/debian bookworm main\n")
    assert find_mirrors(apt=tmp_path) == AptMirrors("http://first.example.test/debian", f"{OURS}-security")


def test_a_list_of_mirrors_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "debian.list").write_text("# one per line\nhttp://listed.example.test/debian priority:1\n")
    (tmp_path / "sources.list").write_text(f"deb mirror+file:{tmp_path}/debian.list trixie main\n")
    assert find_mirrors(apt=tmp_path) == AptMirrors("http://listed.example.test/debian")


def test_option_before_environment_before_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "http://env.example.test/debian http://env.example.test/debian-security")
    assert find_mirrors("http://option.example.test/d", apt=tmp_path) == AptMirrors("http://option.example.test/d")
    found = find_mirrors(apt=tmp_path)
    assert found == AptMirrors("http://env.example.test/debian", "http://env.example.test/debian-security")
    assert apt_lines(found, "trixie", "trixie-security") == [
        "deb http://env.example.test/debian trixie main",
        "deb http://env.example.test/debian-security trixie-security main",
    ]


@pytest.mark.parametrize("text", ["", " ", "mirror", "ssh://example.test/", "http://a.test " * 3, "'"])
def test_a_wrong_option_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a Debian mirror"):
        from_option(text)


@given(st.text(alphabet=" \n\tdeb:[]#=Ux/main-Typs", max_size=200))
def test_no_text_breaks_the_parsers(text: str) -> None:
    choose([*parse_list(text), *parse_deb822(text)])
