"""One user's graph: the base graph with the user's own adds and removes, and the journal that explains them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kgt_editor.errors import UsageError
from kgt_editor.graph.entry import Edit
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.mentions import Mentions
from kgt_editor.graph.overlay import Overlay
from kgt_editor.graph.ranking import BASE_TRIPLES, Ranked, Rankings
from kgt_editor.graph.store import Graph
from kgt_editor.graph.triple import Triple


class PersonalGraph(Mentions):
    """The base graph under one user's overlay.

    ``add`` and ``remove`` are the paper's G (+) z = G u {z} and G (-) z = G \\ {z} (section 4.3). Removing a base
    triple hides it from this user; the base itself never changes. What a triple's state is, is decided by the last
    edit in force that touches it, and by the base where there is none: so edits can be undone in any order, and
    undoing all of them gives the base.

    Args:
        base: what all users share.
        journal: where the edits are kept; without one they are kept in memory and go with this object.
        user: whose edits of the journal these are.

    Every change is in the journal when the call returns. What another process changes for the same user is seen at
    the next change made here, or at ``refresh``.
    """

    def __init__(self, base: Graph, journal: Journal | None = None, user: str = "user") -> None:
        if not user.strip():
            raise UsageError("a user needs a name")
        self.base = base
        self.user = user
        self._journal = Journal() if journal is None else journal
        self._id = self._journal.user_id(user)
        self._checked: tuple[int | None, int] = (None, 0)  # up to which entry of which id the journal was checked
        self._load()

    # What is in the graph

    def triples_from(self, head: str, limit: int | None = None) -> list[Triple]:
        """The triples that start at ``head``: the base's first, in its order, then the user's, oldest first.

        With a ``limit`` the base's last ones are left out, then the user's oldest.
        """
        own, hidden = self._overlay.present.get(head, {}), self._overlay.absent.get(head, {})
        if not (own or hidden):
            return list(self.base.triples_from(head, limit))
        base = self.base.triples_from(head, None if limit is None else limit + len(hidden))
        kept = [triple for triple in base if triple not in own and triple not in hidden]
        if limit is None:
            return [*kept, *own]
        return kept[: max(0, limit - len(own))] + list(own)[max(0, len(own) - limit) :]

    def candidates(self, head: str, query: str, limit: int) -> list[Triple]:
        """At most ``limit`` of the triples that start at ``head``, those that fit ``query``.

        Where there are no more, they come as from :meth:`triples_from`; else the user's own first, in the order of
        :meth:`kgt_editor.graph.ranking.Ranking.best`. Of the base's only the heaviest ``BASE_TRIPLES`` are looked at.
        """
        few = self.triples_from(head, limit + 1)
        if len(few) <= limit:
            return few
        return self._rankings.of(head, lambda: self._ranked(head)).best(query, limit)

    def _ranked(self, head: str) -> Iterator[Ranked]:
        own, hidden = self._overlay.present.get(head, {}), self._overlay.absent.get(head, {})
        for rank, triple in enumerate(self.base.triples_from(head, BASE_TRIPLES + len(hidden))):
            if triple not in own and triple not in hidden:
                yield triple, False, (-rank, 0), ""
        queries = self._journal.queries(self._id, head) if own and self._id is not None else {}
        for triple, place in own.items():
            yield triple, True, place, queries[place[0]]

    def heads(self) -> Iterator[str]:
        """Every entity that starts a triple."""
        for head in self.base.heads():
            if head not in self._overlay.present and (head not in self._overlay.absent or self.triples_from(head)):
                yield head
        yield from self._overlay.present

    def relations(self) -> list[str]:
        """The relation phrases of the base and of the user's own triples."""
        return list(dict.fromkeys([*self.base.relations(), *self._overlay.relations]))

    def __contains__(self, triple: object) -> bool:
        if not isinstance(triple, Triple):
            return False
        if triple in self._overlay.present.get(triple.head, ()):
            return True
        return triple not in self._overlay.absent.get(triple.head, ()) and triple in self.base

    def __len__(self) -> int:
        return len(self.base) + len(self.added) - len(self.removed)

    @property
    def added(self) -> list[Triple]:
        """The triples this user has and the base has not."""
        return [triple for listed in self._overlay.present.values() for triple in listed if triple not in self.base]

    @property
    def removed(self) -> list[Triple]:
        """The base triples hidden from this user."""
        return [triple for listed in self._overlay.absent.values() for triple in listed if triple in self.base]

    # Changing it

    def add(self, triple: Triple, query: str = "", answer: str = "") -> Edit:
        """G (+) z, as an edit of its own."""
        return self.commit(query, answer, added=[triple])

    def remove(self, triple: Triple, query: str = "", answer: str = "") -> Edit:
        """G (-) z, as an edit of its own."""
        return self.commit(query, answer, removed=[triple])

    def commit(
        self,
        query: str,
        answer: str,
        added: Iterable[Triple] = (),
        removed: Iterable[Triple] = (),
        *,
        before: float | None = None,
        after: float | None = None,
        told: int = 1,
        when: float | None = None,
    ) -> Edit:
        """Make the changes of one edit, the adds before the removes, and enter them in the journal.

        Args:
            query, answer: the feedback that caused it.
            added, removed: z of G (+) z and G (-) z.
            before, after, told: see :class:`~kgt_editor.graph.entry.Edit`.
            when: the time that is entered, now unless given.

        Raises:
            KgtError: the journal cannot be written to; the graph is as it was.
        """
        taken = dict.fromkeys(removed)
        wanted = [triple for triple in dict.fromkeys(added) if triple not in taken]
        with self._journal.writing(self.user, self._id) as (user, last):
            self._catch_up(user, last)
            edit = Edit(
                number=last + 1,
                query=query,
                answer=answer,
                added=tuple(triple for triple in wanted if triple not in self),
                removed=tuple(triple for triple in taken if triple in self),
                before=before,
                after=after,
                time=time.time() if when is None else when,
                told=told,
            )
            self._journal.write(user, [edit])
        self._id, self._seen = user, edit.number
        for position, triple in enumerate((*edit.added, *edit.removed)):
            place, adds = (edit.number, position), position < len(edit.added)
            self._overlay.settle(triple, place, adds)
            self._rankings.settle(triple, place, adds, query)
        return edit

    def undo(self, number: int | None = None, *, when: float | None = None) -> Edit:
        """Take back one edit, the last one in force unless ``number`` says which; other edits stay in force.

        ``when`` as in :meth:`commit`.

        Returns:
            the edit that was taken back.

        Raises:
            UsageError: there is no such edit (any more).
            KgtError: the journal cannot be written to; the graph is as it was.
        """
        with self._journal.writing(self.user, self._id) as (user, last):
            self._catch_up(user, last)
            edit = self._journal.edit_in_force(user, number)
            if edit is None:
                which = "the last edit" if number is None else f"edit {number}"
                raise UsageError(f"{which} cannot be undone: the journal holds no such edit")
            now = time.time() if when is None else when
            entry = Edit(last + 1, edit.query, edit.answer, time=now, undoes=edit.number)
            self._journal.write(user, [entry])
        self._id, self._seen = user, entry.number
        touched = (*edit.added, *edit.removed)
        states = self._journal.states(user, (triple.head for triple in touched))
        self._overlay.settle_all((z, *states.get(z, ((0, 0), None))) for z in touched)
        for triple in touched:
            self._rankings.drop(triple.head)
        return edit

    def refresh(self) -> None:
        """See what other processes have changed for this user."""
        before, self._id = self._id, self._journal.user_id(self.user)
        if self._id != before or (self._id is not None and self._journal.last(self._id) != self._seen):
            self._load()

    def _catch_up(self, user: int, last: int) -> None:
        if last != self._seen:
            self._id = user
            self._load()

    def _load(self) -> None:
        """Make the overlay from the journal."""
        self._rankings = Rankings()
        self._seen = 0 if self._id is None else self._journal.last(self._id)
        if self._id is not None:
            owner, checked = self._checked
            self._journal.check(self._id, checked if owner == self._id else 0)
            self._checked = self._id, self._seen
        self._overlay = Overlay(() if self._id is None else self._journal.in_force(self._id, self._seen))

    # Explaining it

    @property
    def journal(self) -> list[Edit]:
        """The edits in force, oldest first."""
        undone = set() if self._id is None else self._journal.undone(self._id, self._seen)
        return [edit for edit in self.history() if edit.undoes is None and edit.number not in undone]

    def history(self) -> list[Edit]:
        """Every entry, oldest first: the edits, those taken back included, and the entries that took them back."""
        return [] if self._id is None else self._journal.entries(self._id, upto=self._seen)

    def explain(self, triple: Triple) -> Edit | None:
        """The feedback that put the triple there or took it away last; None where only the base decides."""
        place = self._overlay.place(triple)
        if place is None or self._id is None:
            return None
        return self._journal.entries(self._id, place[0], place[0])[0]

    def explain_answer(self, answer: str) -> list[tuple[Triple, Edit]]:
        """The user's triples that say ``answer``, case aside, and the feedback each came from; the latest first."""
        folded = answer.strip().casefold()
        said = [
            (place, triple)
            for listed in self._overlay.present.values()
            for triple, place in listed.items()
            if triple.tail.casefold() == folded
        ]
        explained = [(triple, self.explain(triple)) for _, triple in sorted(said, reverse=True)]
        return [(triple, edit) for triple, edit in explained if edit is not None]

    def as_of(self, number: int) -> PersonalGraph:
        """The graph as it was after entry ``number`` (0: before the first), as an independent graph in memory.

        Raises:
            UsageError: there is no such entry.
        """
        if not 0 <= number <= self._seen:
            raise UsageError(f"no entry {number} in the journal of '{self.user}': it has 0 to {self._seen}")
        twin = PersonalGraph(self.base, user=self.user)
        if self._id is not None:
            twin.append(self._journal.entries(self._id, upto=number))
        return twin

    def copy(self) -> PersonalGraph:
        """An independent copy over the same base, in memory."""
        return self.as_of(self._seen)

    def __deepcopy__(self, memo: dict[int, Any]) -> PersonalGraph:
        return self.copy()

    def append(self, entries: Iterable[Edit]) -> None:
        """Enter another graph's history behind this one's, all or nothing; numbers go on from the last one here.

        Raises:
            KgtError: the journal cannot be written to; the graph is as it was.
        """
        with self._journal.writing(self.user, self._id) as (user, last):
            self._journal.write(user, [entry.renumbered(last) for entry in entries])
        self._id = user
        self._load()

    def save(self, path: Path) -> None:
        """Write this user's history, and nobody else's, to a journal of its own; one that is there is replaced.

        :func:`kgt_editor.graph.replay.replay` makes this graph again from it.

        Raises:
            KgtError: it cannot be written.
        """
        path.unlink(missing_ok=True)
        journal = Journal(path)
        PersonalGraph(self.base, journal, self.user).append(self.history())
        journal.close()
