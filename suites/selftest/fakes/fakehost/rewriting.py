"""From a command meant for a whole host to one that runs inside a directory, and its answer back."""

from __future__ import annotations

import re

_TREES = rb"sys|proc|run|etc|boot|var|lib/modules|usr/lib/modules|dev"
_OURSELVES = (  # what a program needs of the machine it really runs on
    rb"dev/(?:null|zero|full|u?random|tty|ptmx|pts|fd|std(?:in|out|err))\b|proc/(?:self|thread-self)/(?!mount)"
)
# Behind a letter, `}` or `)` a slash goes on with a path that begins elsewhere.
_PATH = re.compile(rb"(?<![\w./})~*?\]-])/(?!%s)(%s)(?![\w.-])" % (_OURSELVES, _TREES))
_SEARCH_PATH = re.compile(rb"(?<![\w$])PATH=")
_CONTROL = (
    rb"bind|unbind|driver_override|new_slot|remove_slot|new_id|remove_id|drivers_probe|reset|reset_method|remove|rescan|"
    rb"sriov_numvfs|control|kmsg|sysrq-trigger"
)
# A redirection tells nobody, so it becomes a pipe into the `tee` that tells the model.
_REDIRECTION = re.compile(
    rb"""(?<![\w"'./-])((?:echo|printf)\b[^|;&\n]*?)\s*(?<![0-9])>>?\s*("[^"\n]*/(?:%s)"|[^\s"';|&]+/(?:%s))(?![\w/.-])"""
    % (_CONTROL, _CONTROL)
)


class Rewriting:
    """To and from paths below `root`, an absolute path without blanks and shell metacharacters."""

    def __init__(self, root: str) -> None:
        if not re.fullmatch(r"[\w/.+-]+", root):
            raise ValueError(f"{root!r} would need quoting in a shell")
        self._root = root.encode()

    def word(self, word: bytes) -> bytes:
        """Paths in one word."""
        return _PATH.sub(lambda match: self._root + match[0], word)

    def program(self, text: bytes) -> bytes:
        """A shell program."""
        text = self.word(_REDIRECTION.sub(rb"\1 | tee \2 >/dev/null", text))
        return _SEARCH_PATH.sub(b"PATH=" + self._root + b"/bin:", text)

    def back(self, output: bytes) -> bytes:
        """What a program printed, as the host would have said it."""
        # 27 (EFBIG) is what a full disk is made of: see Executor.
        return output.replace(self._root, b"").replace(b"File too large", b"No space left on device")
