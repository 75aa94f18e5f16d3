"""A text file -> its lines, whatever editor wrote it.

In: the path of a list or a text. Out: lines without their ends. Knows nothing about what the lines mean.
"""

import codecs
from pathlib import Path

MARKS = (  # the longer mark first: that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def read_lines_of(path: Path, errors: str = "strict") -> list[str]:
    """The lines of a text in UTF-8, or in the encoding that its byte order mark names; any line ends.

    errors: what happens to bytes that are not in the encoding, as in `bytes.decode`. Raises OSError and
    UnicodeDecodeError.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    text = data.decode(encoding, errors if encoding.startswith("utf-8") else "strict")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
