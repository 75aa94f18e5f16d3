"""Cues -> ELAN's annotation format (.eaf, schema 3.0), for people who correct and study annotations.

A tier a head, each cue an annotation with two time slots of its own. Knows nothing of files.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote
from xml.etree import ElementTree as xml

from pipeline.writers.cues import Cue

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_KIND = "default-lt"  # ELAN's own name of a type of tier with free times
_TYPES = mimetypes.MimeTypes()  # Python's own list, the same on every machine


def eaf(path: str, cues: Sequence[Cue], heads: Sequence[str]) -> str:
    """The document. It names its video as lying beside it: ELAN looks there, and asks where it does not find it. A tier
    cannot hold annotations that overlap; where a head's cues do, a second tier `head 2` takes the others.
    """
    written = datetime.now(UTC).isoformat(timespec="seconds")
    root = xml.Element("ANNOTATION_DOCUMENT", AUTHOR="unreel", DATE=written, FORMAT="3.0", VERSION="3.0")
    root.set("xmlns:xsi", _INSTANCE)
    root.set("xsi:noNamespaceSchemaLocation", _SCHEMA)
    header = xml.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    name = os.path.basename(path)
    url = "./" + quote(os.fsencode(name))
    kind = _TYPES.guess_type("x" + os.path.splitext(name)[1])[0] or "unknown"
    xml.SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=url, MIME_TYPE=kind, RELATIVE_MEDIA_URL=url)
    xml.SubElement(header, "PROPERTY", NAME="lastUsedAnnotationId").text = str(len(cues))
    slots = _time_order(root, cues)
    for tier, members in _tiers(cues, heads):
        element = xml.SubElement(root, "TIER", LINGUISTIC_TYPE_REF=_KIND, TIER_ID=tier)
        for index in members:
            first, last = slots[index]
            annotation = xml.SubElement(xml.SubElement(element, "ANNOTATION"), "ALIGNABLE_ANNOTATION")
            annotation.set("ANNOTATION_ID", f"a{index + 1}")
            annotation.set("TIME_SLOT_REF1", first)
            annotation.set("TIME_SLOT_REF2", last)
            xml.SubElement(annotation, "ANNOTATION_VALUE").text = cues[index].text
    xml.SubElement(root, "LINGUISTIC_TYPE", GRAPHIC_REFERENCES="false", LINGUISTIC_TYPE_ID=_KIND, TIME_ALIGNABLE="true")
    xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(root, encoding="unicode") + "\n"


def _time_order(root: xml.Element, cues: Sequence[Cue]) -> list[tuple[str, str]]:
    """All starts and ends in order of time, as the format asks; returns the two slots of each cue."""
    ends = sorted(
        (time, index, side) for index, cue in enumerate(cues) for side, time in enumerate((cue.start, cue.end))
    )
    order = xml.SubElement(root, "TIME_ORDER")
    names: dict[tuple[int, int], str] = {}
    for number, (time, index, side) in enumerate(ends, start=1):
        names[index, side] = f"ts{number}"
        xml.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=f"ts{number}", TIME_VALUE=str(time))
    return [(names[index, 0], names[index, 1]) for index in range(len(cues))]


def _tiers(cues: Sequence[Cue], heads: Sequence[str]) -> list[tuple[str, list[int]]]:
    """(tier, indices of its cues): one for every head, also where it says nothing, and more where its cues overlap."""
    found = []
    for head in heads:
        lanes: list[list[int]] = [[]]
        for index, cue in enumerate(cues):
            if cue.head == head:
                free = next((lane for lane in lanes if not lane or cues[lane[-1]].end <= cue.start), None)
                if free is None:
                    lanes.append(free := [])
                free.append(index)
        found += [(head if not number else f"{head} {number + 1}", lane) for number, lane in enumerate(lanes)]
    return found
