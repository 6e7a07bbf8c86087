"""Which Debian mirror to build from: the one this machine itself uses. No mirror's name is written down here.

The files are read as they stand: `apt-get indextargets` (apt 2.6) lists only what `apt-get update` has fetched, so
nothing in a fresh container, and nothing at all beside one malformed line.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness.base.errors import UsageError

APT = Path("/etc/apt")
VARIABLE = "MASKALL_MIRROR"

_SUITE = re.compile(
    r"^(?:buster|bullseye|bookworm|trixie|forky|duke|sid|(?:old)*stable|testing|unstable)(?P<rest>[-/].*)?$"
)
_LAST_FOLDER = re.compile(r"^debian(-security)?(\.list)?$")
_SCHEMES = {"http", "https", "ftp", "mirror+file"}


@dataclass(frozen=True)
class AptMirrors:
    """Where packages come from: the archive and, if known, its security archive (URIs)."""

    main: str
    security: str | None = None


@dataclass(frozen=True)
class AptSource:
    """One line of apt's sources, whichever of the two formats it was written in."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""

    @property
    def is_debian(self) -> bool:
        """True for Debian's own archive: third parties use other keys, folders or components."""
        if urlsplit(self.uri).scheme not in _SCHEMES or "main" not in self.components or not _SUITE.match(self.suite):
            return False
        if self.signed_by:
            return "debian-archive" in self.signed_by
        return bool(_LAST_FOLDER.match(self.uri.rstrip("/").rpartition("/")[2]))

    @property
    def is_security(self) -> bool:
        match = _SUITE.match(self.suite)
        return bool(match and match["rest"] in ("-security", "/updates"))

    @property
    def is_release(self) -> bool:
        """The suite itself, not its updates, backports or proposed-updates."""
        match = _SUITE.match(self.suite)
        return bool(match and not match["rest"])


def parse_list(text: str) -> Iterator[AptSource]:
    """Apt's one-line format.

    Accepted format (sources.list(5)): `deb [option=value ...] URI SUITE COMPONENT...`, `#` starts a comment. Lines
    apt would refuse are passed over: they name no mirror.
    """
    for line in text.splitlines():
        match = re.match(r"^\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<rest>[^#\[]+)", line)
        if not match:
            continue
        words = match["rest"].split()
        if len(words) < 3:
            continue
        options = dict(option.partition("=")[::2] for option in (match["options"] or "").split())
        signed = next((value for name, value in options.items() if name.lower() == "signed-by"), "")
        yield AptSource(words[0], words[1], tuple(words[2:]), signed)


def parse_deb822(text: str) -> Iterator[AptSource]:
    """Apt's deb822 format.

    Accepted format (sources.list(5)): paragraphs apart by empty lines, `Field: value` with continuation lines that
    start with white space, `#` lines are comments; Types, URIs, Suites, Components, Signed-By and Enabled matter.
    """
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for paragraph in re.split(r"\n[ \t]*(?:\n[ \t]*)+", "\n".join(lines)):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line[:1].isspace():
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            else:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield AptSource(uri, suite, tuple(fields.get("components", "").split()), fields.get("signed-by", ""))


def choose(sources: Iterable[AptSource]) -> AptMirrors | None:
    """The first Debian archive and the first Debian security archive among `sources`; None without an archive."""
    debian = [source for source in sources if source.is_debian]
    main = next((source.uri for source in debian if source.is_release), None)
    security = next((source.uri for source in debian if source.is_security), None)
    return AptMirrors(main, security) if main else None


def from_option(text: str) -> AptMirrors:
    """`URI` or `URI SECURITY-URI`, from an option or the environment. Raises UsageError."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    if not 1 <= len(words) <= 2 or any(urlsplit(word).scheme not in _SCHEMES for word in words):
        raise UsageError(f"not a Debian mirror: {text!r}", hint="give a URI, or two: archive and security archive")
    return AptMirrors(*words)


def preferences(suite: str, packages: Iterable[str]) -> str:
    """apt_preferences(5) that take these packages from the backports of `suite`, and no others but what they need."""
    wanted = (f"Package: {one}\nPin: release n={suite}-backports\nPin-Priority: 900\n" for one in packages)
    return "\n".join(wanted)


def backports_options(suite: str, packages: Iterable[str]) -> list[str]:
    """mmdebstrap's options for taking `packages` from the backports of `suite`, which are where the suite is."""
    wanted = preferences(suite, packages)
    if not wanted:
        return []
    prefer = f'printf %s {shlex.quote(wanted)} > "$1/etc/apt/preferences"'
    lines = f"s/^(deb .*) {suite} main$/\\1 {suite}-backports main/p"
    source = f'sed -nE "{lines}" "$1/etc/apt/sources.list" > "$1/etc/apt/sources.list.d/backports.list"'
    return [f"--setup-hook={prefer}", f"--setup-hook={source}"]


def use_mirror(text: str | None) -> None:
    """Let images be built from this mirror for the rest of the process; None changes nothing. Raises UsageError."""
    if text is not None:
        from_option(text)
        os.environ[VARIABLE] = text


def find_mirrors(option: str | None = None, *, apt: Path = APT) -> AptMirrors | None:
    """The option, else $MASKALL_MIRROR, else this machine's apt sources; None: leave mmdebstrap its own default."""
    given = option or os.environ.get(VARIABLE)
    if given:
        return from_option(given)
    sources: list[AptSource] = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        parse = {".list": parse_list, ".sources": parse_deb822}.get(path.suffix)
        if parse is not None:
            try:
                text = path.read_text(errors="replace")
            except OSError:
                continue  # missing, or private to root: apt's own business
            sources += parse(text)
    found = choose(sources)
    return found and AptMirrors(_resolved(found.main), found.security and _resolved(found.security))


def _resolved(uri: str) -> str:
    """A mirror+file: URI names a list of mirrors on this machine (Debian's cloud images); take its first."""
    if not uri.startswith("mirror+file:"):
        return uri
    try:
        lines = Path(urlsplit(uri).path).read_text(errors="replace").splitlines()
    except OSError:
        return uri
    return next((line.split()[0] for line in lines if line.strip() and not line.startswith("#")), uri)


def apt_lines(mirrors: AptMirrors, suite: str, security_suite: str) -> list[str]:
    """The sources an image of `suite` is built from, one line each."""
    lines = [f"deb {mirrors.main} {suite} main"]
    if mirrors.security:
        lines.append(f"deb {mirrors.security} {security_suite} main")
    return lines
