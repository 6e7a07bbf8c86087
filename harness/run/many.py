"""The files of a soak and of a campaign, with the page that tells them."""

from __future__ import annotations

from pathlib import Path

from harness.report import matrix
from harness.report.matrix import KillMatrix
from harness.report.page.many import matrix_page, soak_page
from harness.report.soak import Soak
from harness.run.store import dump, load, write_atomically

SOAK = "soak.json"
PAGE = "report.html"


def store_soak(soak: Soak, folder: Path) -> None:
    dump(soak, folder / SOAK)
    write_atomically(folder / PAGE, soak_page(soak))


def store_matrix(made: KillMatrix, folder: Path) -> None:
    dump(made, folder / matrix.FILE)
    write_atomically(folder / PAGE, matrix_page(made))


def page_of(folder: Path) -> bytes | None:
    """The page of a soak or a campaign made again; None where there is neither."""
    if (folder / SOAK).exists():
        return soak_page(load(folder / SOAK, Soak))
    if (folder / matrix.FILE).exists():
        return matrix_page(load(folder / matrix.FILE, KillMatrix))
    return None
