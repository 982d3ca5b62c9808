"""Relations as words.

A triple is read by a language model, so its relation has to be a phrase: ``P103(native language)`` is nothing a
cloze prompt can use, ``has native language`` is. The tables cover the Wikidata relations of CounterFact and PARAREL,
and those of ConceptNet 4 and 5; a phrase stands between head and tail ("Danielle Darrieux has native language
French").
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

#: Relations that MQuAKE has besides. They are no part of the vocabulary that ``rank`` chooses from.
_MORE_PHRASES: dict[str, str] = {
    "P6": "has the head of government",
    "P26": "is married to",
    "P35": "has the head of state",
    "P40": "has the child",
    "P50": "was written by",
    "P69": "was educated at",
    "P112": "was founded by",
    "P169": "has the chief executive officer",
    "P170": "was created by",
    "P175": "was performed by",
    "P286": "has the head coach",
    "P488": "has the chairperson",
    "P800": "is famous for",
    "P1037": "is directed by",
}

#: A triple with this relation gives its head another name, which the linker finds too.
ALIAS = "is also known as"

#: The tail of a triple with this relation is a sentence about its head, as somebody wrote it.
NOTE = "has the note"

CONCEPTNET_PHRASES: dict[str, str] = {
    "AlsoKnownAs": ALIAS,
    "Antonym": "is the opposite of",
    "AtLocation": "is located at",
    "CapableOf": "can",
    "Causes": "causes",
    "CausesDesire": "makes people want",
    "ConceptuallyRelatedTo": "is related to",
    "CreatedBy": "is created by",
    "DefinedAs": "is defined as",
    "DerivedFrom": "is derived from",
    "DesireOf": "is wanted by",
    "Desires": "wants",
    "DistinctFrom": "is distinct from",
    "Entails": "entails",
    "EtymologicallyDerivedFrom": "is etymologically derived from",
    "EtymologicallyRelatedTo": "is etymologically related to",
    "ExternalURL": "is described at",
    "FormOf": "is a form of",
    "HasA": "has",
    "HasContext": "is used in the context of",
    "HasFirstSubevent": "begins with",
    "HasLastSubevent": "ends with",
    "HasPainCharacter": "hurts in the manner of",
    "HasPainIntensity": "hurts with the intensity",
    "HasPrerequisite": "requires",
    "HasProperty": "is",
    "HasSubevent": "includes",
    "InheritsFrom": "inherits from",
    "InstanceOf": "is an instance of",
    "IsA": "is a",
    "LocatedNear": "is located near",
    "LocationOfAction": "is the place of",
    "MadeOf": "is made of",
    "MannerOf": "is a way to",
    "MotivatedByGoal": "is motivated by the goal",
    "NotCapableOf": "cannot",
    "NotDesires": "does not want",
    "NotHasA": "does not have",
    "NotHasProperty": "is not",
    "NotIsA": "is not a",
    "NotMadeOf": "is not made of",
    "NotUsedFor": "is not used for",
    "ObstructedBy": "is obstructed by",
    "PartOf": "is part of",
    "ReceivesAction": "can be",
    "RelatedTo": "is related to",
    "SimilarSize": "is as big as",
    "SimilarTo": "is similar to",
    "SymbolOf": "is a symbol of",
    "Synonym": "means the same as",
    "UsedFor": "is used for",
}

_WIKIDATA = re.compile(r"^(P\d+)(?:\((.*)\))?$")


def verbalise(relation: str) -> str:
    """The phrase for a relation label.

    ``P103``, ``P103(native language)`` and ``has native language`` all give ``has native language``;
    ``/r/AtLocation`` and ``AtLocation`` give ``is located at``. A Wikidata relation outside the table falls back to
    the label in its parentheses ("P999(chess title)" -> "chess title"), a ConceptNet one to the last part of its URI
    ("/r/dbpedia/genre" -> "genre"), CamelCase and snake_case names are split into words, and anything else is
    returned as it is.
    """
    label = " ".join(relation.split())
    if label.startswith("/r/"):
        label = label.rstrip("/").rpartition("/")[2]
    if label in CONCEPTNET_PHRASES:
        return CONCEPTNET_PHRASES[label]
    wikidata = _WIKIDATA.match(label)
    if wikidata:
        number = wikidata[1]
        return WIKIDATA_PHRASES.get(number) or _MORE_PHRASES.get(number) or wikidata[2] or label
    if " " in label:
        return label
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", label.replace("_", " "))
    return words.lower() if words != label else label
