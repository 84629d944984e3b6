"""Text that a stranger chose, so that it can be shown: it acts on no terminal and fakes no line."""

from __future__ import annotations

from typing import Final

__all__ = ["ESCAPES", "printable"]

# C0, DEL, C1, and what reorders or hides text (Unicode's bidirectional controls
# and separators); a lone surrogate stands for a byte that was not UTF-8.
ESCAPES: Final[dict[int, str]] = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{code: f"\\u{code:04x}" for code in (0x061C, *range(0x200B, 0x2010), *range(0x2028, 0x202F))},
    **{code: f"\\u{code:04x}" for code in (*range(0x2060, 0x2070), *range(0xD800, 0xE000), 0xFEFF)},
    **{code: f"\\x{code - 0xDC00:02x}" for code in range(0xDC80, 0xDD00)},
    **{ord(char): text for char, text in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))},
}


def printable(text: str, limit: int = 400) -> str:
    """Returns the text with everything escaped that could act on a terminal or fake a line.

    Args:
        text: Any text.
        limit: Characters of it that are shown; what is longer ends in an ellipsis.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text.translate(ESCAPES)
