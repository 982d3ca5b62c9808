"""Relations as words.

A triple is read by a language model, so its relation has to be a phrase: ``P103(native language)`` is nothing a
cloze prompt can use, ``has native language`` is. The table covers the Wikidata relations of CounterFact and PARAREL;
a phrase stands between head and tail ("Danielle Darrieux has native language French").
"""

from __future__ import annotations

import re

WIKIDATA_PHRASES: dict[str, str] = {
    "P17": "is located in the country",
    "P19": "was born in",
    "P20": "died in",
    "P27": "is a citizen of",
    "P30": "is on the continent",
    "P36": "has the capital",
    "P37": "has official language",
    "P39": "holds the office of",
    "P101": "works in the field of",
    "P103": "has native language",
    "P106": "has the occupation",
    "P108": "is employed by",
    "P127": "is owned by",
    "P131": "lies in the region",
    "P136": "belongs to the genre",
    "P138": "is named after",
    "P140": "follows the religion",
    "P159": "has headquarters in",
    "P176": "is made by",
    "P178": "was developed by",
    "P190": "is the twin city of",
    "P264": "is signed to the label",
    "P276": "is situated in",
    "P364": "has original language",
    "P407": "is written in the language",
    "P413": "plays the position",
    "P449": "first aired on",
    "P463": "is a member of",
    "P495": "comes from the country",
    "P641": "plays the sport",
    "P740": "was founded in",
    "P937": "worked in the city",
    "P1303": "plays the instrument",
    "P1412": "speaks the language",
}

_WIKIDATA = re.compile(r"^(P\d+)(?:\((.*)\))?$")


def verbalise(relation: str) -> str:
    """The phrase for a relation label.

    ``P103``, ``P103(native language)`` and ``has native language`` all give ``has native language``. A Wikidata
    relation outside the table falls back to the label in its parentheses ("P999(chess title)" -> "chess title"),
    CamelCase and snake_case names are split into words, and anything else is returned as it is.
    """
    label = " ".join(relation.split())
    wikidata = _WIKIDATA.match(label)
    if wikidata:
        return WIKIDATA_PHRASES.get(wikidata[1]) or wikidata[2] or label
    if " " in label:
        return label
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", label.replace("_", " "))
    return words.lower() if words != label else label
