"""libvirt-python, which may not be installed, and its errors as text."""

from __future__ import annotations

from typing import Any

from harness.base.errors import LabError
from harness.base.text import inert


def library() -> Any:  # noqa: ANN401 - libvirt-python has no types
    """The module libvirt. LabError naming what to install."""
    try:
        import libvirt
    except ImportError as error:
        raise LabError(
            f"the Python package libvirt-python cannot be loaded: {error}",
            hint="apt-get install libvirt-dev pkg-config gcc python3-dev, then pip install 'maskall[libvirt]'",
        ) from error
    # it prints every error to stderr besides raising it
    libvirt.registerErrorHandler(lambda context, error: None, None)
    return libvirt


def told(error: Exception) -> str:
    """What an error of libvirt says, on one line and harmless."""
    return inert(" ".join(str(error).split()))
