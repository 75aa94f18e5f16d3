"""Cues -> ELAN's annotation format (.eaf, schema 3.0), for people who correct and study annotations.

In: the cues of a video. Out: the text of a file. Each head is a tier, and each cue an annotation with two time slots of
its own. Knows nothing of files.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Sequence
from urllib.parse import quote
from xml.etree import ElementTree as xml

from pipeline.writers.cues import Cue

_SCHEMA_URL = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_INSTANCE_URL = "http://www.w3.org/2001/XMLSchema-instance"
_DATE = "1970-01-01T00:00:00+00:00"  # the schema needs one, and equal answers give equal files
_TIER_TYPE = "default-lt"  # ELAN's name of the tier type with free times
_MIME_TYPES = mimetypes.MimeTypes()  # Python's own list, the same on every machine


def to_eaf(path: str, cues: Sequence[Cue], heads: Sequence[str]) -> str:
    """The XML document.

    It refers to its video in the same folder: ELAN looks there, and asks for the video where it is not found. The
    annotations of a tier cannot overlap; where the cues of a head do, a second tier `head 2` has the others.
    """
    root = xml.Element("ANNOTATION_DOCUMENT", AUTHOR="unreel", DATE=_DATE, FORMAT="3.0", VERSION="3.0")
    root.set("xmlns:xsi", _INSTANCE_URL)
    root.set("xsi:noNamespaceSchemaLocation", _SCHEMA_URL)
    header = xml.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    name = os.path.basename(path)
    url = "./" + quote(os.fsencode(name))
    mime_type = _MIME_TYPES.guess_type("x" + os.path.splitext(name)[1])[0] or "unknown"
    xml.SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=url, MIME_TYPE=mime_type, RELATIVE_MEDIA_URL=url)
    xml.SubElement(header, "PROPERTY", NAME="lastUsedAnnotationId").text = str(len(cues))
    slots = _time_order(root, cues)
    for tier, indices in _tiers(cues, heads):
        element = xml.SubElement(root, "TIER", LINGUISTIC_TYPE_REF=_TIER_TYPE, TIER_ID=tier)
        for index in indices:
            first, last = slots[index]
            annotation = xml.SubElement(xml.SubElement(element, "ANNOTATION"), "ALIGNABLE_ANNOTATION")
            annotation.set("ANNOTATION_ID", f"a{index + 1}")
            annotation.set("TIME_SLOT_REF1", first)
            annotation.set("TIME_SLOT_REF2", last)
            xml.SubElement(annotation, "ANNOTATION_VALUE").text = cues[index].text
    xml.SubElement(
        root, "LINGUISTIC_TYPE", GRAPHIC_REFERENCES="false", LINGUISTIC_TYPE_ID=_TIER_TYPE, TIME_ALIGNABLE="true"
    )
    xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(root, encoding="unicode") + "\n"


def _time_order(root: xml.Element, cues: Sequence[Cue]) -> list[tuple[str, str]]:
    """Add all starts and ends in order of time, as the schema requires. Returns the two slots of each cue."""
    times = sorted(
        (time, index, side) for index, cue in enumerate(cues) for side, time in enumerate((cue.start, cue.end))
    )
    order = xml.SubElement(root, "TIME_ORDER")
    names: dict[tuple[int, int], str] = {}
    for number, (time, index, side) in enumerate(times, start=1):
        names[index, side] = f"ts{number}"
        xml.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=f"ts{number}", TIME_VALUE=str(time))
    return [(names[index, 0], names[index, 1]) for index in range(len(cues))]


def _tiers(cues: Sequence[Cue], heads: Sequence[str]) -> list[tuple[str, list[int]]]:
    """(tier, indices of its cues): one for every head, also without cues, and more where its cues overlap."""
    tiers = []
    for head in heads:
        rows: list[list[int]] = [[]]
        for index, cue in enumerate(cues):
            if cue.head == head:
                free_row = next((row for row in rows if not row or cues[row[-1]].end <= cue.start), None)
                if free_row is None:
                    rows.append(free_row := [])
                free_row.append(index)
        tiers += [(head if not number else f"{head} {number + 1}", row) for number, row in enumerate(rows)]
    return tiers
