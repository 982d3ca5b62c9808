"""What one user's edits in force say, and the names it can be found by: the layer over a base graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kgt_editor.graph.consequences import Consequences
from kgt_editor.graph.entry import Place
from kgt_editor.graph.names import HeadIndex
from kgt_editor.graph.relations import ALIAS
from kgt_editor.graph.triple import Triple

_ByHead = dict[str, dict[Triple, Place]]


class Overlay:
    """The last change in force of every triple that a user has touched.

    Args:
        changes: triple, place in the journal and whether the change adds it, oldest first.

    Attributes:
        present, absent: head -> triple -> place of its last change, oldest first; apart by what that change wants.
            Neither asks the base, so a session opens without a look-up for every triple.
        relations: how many present triples have the relation.
        head_index: the names of present heads, aliases among them.
    """

    def __init__(self, changes: Iterable[tuple[Triple, Place, bool]] = ()) -> None:
        self.present: _ByHead = {}
        self.absent: _ByHead = {}
        for triple, place, adds in changes:
            self._forget(triple)
            (self.present if adds else self.absent).setdefault(triple[0], {})[triple] = place
        own = [triple for listed in self.present.values() for triple in listed]
        self.relations = Counter([triple[1] for triple in own])
        self.head_index = HeadIndex(self.present)
        self._consequences: Consequences | None = None
        if ALIAS in self.relations:
            for head, relation, tail in own:
                if relation == ALIAS:
                    self.head_index.add(head, tail)

    @property
    def consequences(self) -> Consequences:
        """What follows from the present triples; counted when it is first asked for."""
        if self._consequences is None:
            self._consequences = Consequences(triple for listed in self.present.values() for triple in listed)
        return self._consequences

    def place(self, triple: Triple) -> Place | None:
        """Where the journal has its last change; None where it has none in force."""
        for overlay in (self.present, self.absent):
            if (found := overlay.get(triple.head, {}).get(triple)) is not None:
                return found
        return None

    def settle(self, triple: Triple, place: Place, wanted: bool | None) -> None:
        """:meth:`settle_all` for one triple."""
        self.settle_all([(triple, place, wanted)])

    def settle_all(self, changes: Iterable[tuple[Triple, Place, bool | None]]) -> None:
        """Bring triples in line with their last change in force; where it wants None, there is none."""
        mixed = [one for triple, place, wanted in changes if (one := self._settle(triple, place, wanted)) is not None]
        for overlay, head in {(id(overlay), head): (overlay, head) for overlay, head in mixed}.values():
            if head in overlay:
                overlay[head] = dict(sorted(overlay[head].items(), key=lambda item: item[1]))

    def _settle(self, triple: Triple, place: Place, wanted: bool | None) -> tuple[_ByHead, str] | None:
        """Settle one triple; gives the head, and where it stands, whose triples are no longer in order."""
        head, relation, tail = triple
        held = triple in self.present.get(head, ())
        self._forget(triple)
        mixed = None
        if wanted is not None:
            overlay = self.present if wanted else self.absent
            listed = overlay.setdefault(head, {})
            if listed and place < listed[next(reversed(listed))]:  # an older change is in force again
                mixed = overlay, head
            listed[triple] = place
        if held == (wanted is True):
            return mixed
        if self._consequences is not None:
            self._consequences.settle(triple, wanted is True)
        self.relations[relation] += 1 if wanted else -1
        if not self.relations[relation]:
            del self.relations[relation]
        self._rename(head, tail if relation == ALIAS else None, wanted is True)
        return mixed

    def _forget(self, triple: Triple) -> None:
        head = triple[0]
        for overlay in (self.present, self.absent):
            if head in overlay and overlay[head].pop(triple, None) is not None and not overlay[head]:
                del overlay[head]

    def _rename(self, head: str, alias: str | None, come: bool) -> None:
        """The names of a head, one of whose triples has come or gone."""
        names = [] if alias is None else [alias]
        if come:
            for name in (head, *names):
                self.head_index.add(head, name)
            return
        if head not in self.present:
            names.append(head)
        for name in names:
            self.head_index.discard(head, name)
        if names and head in self.present:  # under the same words as the alias that went, another may stand
            for name in (head, *(other.tail for other in self.present[head] if other.relation == ALIAS)):
                self.head_index.add(head, name)
