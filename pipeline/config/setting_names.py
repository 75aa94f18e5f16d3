"""A name that is no setting -> the settings that were probably meant, with their sections.

In: the class of a config and a name, as people write it in other programs. Out: dotted settings. Knows nothing of
values and files.
"""

from __future__ import annotations

import difflib
import typing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config.base import Section

MAX_LISTED = 4
ELSEWHERE = {
    "learning_rate": "lr",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "batch": "batch_size",
    "bs": "batch_size",
    "fps": "rate",
    "hidden_size": "hidden",
    "units": "hidden",
    "num_layers": "layers",
    "num_workers": "workers",
    "gpu": "device",
    "out": "run",
    "output": "run",
    "output_dir": "run",
    "name": "run",
    "resume": "init_from",
    "pretrained": "init_from",
}
"""What other programs call a setting -> what it is called here."""


def settings_like(section: type[Section], name: str) -> list[str]:
    """The settings with this name in any section, or with the most similar one: at most four, such as "training.lr".

    The name of a head stands as NAME. The list is empty where nothing is similar.
    """
    places: dict[str, list[str]] = {}
    for place in _places(section, ""):
        places.setdefault(place.rpartition(".")[2], []).append(place)
    word = name.strip("-").replace("-", "_").lower()
    word = word if word in places else ELSEWHERE.get(word, word)
    close = [word] if word in places else difflib.get_close_matches(word, places, n=1, cutoff=0.75)
    found = sorted(dict.fromkeys(places[close[0]]), key=lambda place: place.count(".")) if close else []
    return [place for place in found if place.count(".") <= found[0].count(".") + 1][:MAX_LISTED]


def _places(section: type[Section], prefix: str) -> list[str]:
    """Every setting below a section, dotted."""
    from pipeline.config.base import sections_in

    places = []
    for name, info in section.model_fields.items():
        place = f"{prefix}{name}"
        inner = sections_in(info.annotation)
        places += [] if inner else [place]
        below = f"{place}.NAME." if typing.get_origin(info.annotation) is dict else f"{place}."
        for one in inner:
            places += _places(one, below)
    return places
