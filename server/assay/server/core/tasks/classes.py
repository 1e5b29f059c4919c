"""The classes of a task: from names to ids and back, and where merges lead."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import Reason
from assay.server.core.records.tasks import TaskRecord
from assay.server.core.tasks.base import Refused

# Class names that a message lists.
_LISTED = 20


class Classes:
    """Look-ups over the classes of a record, made once."""

    def __init__(self, record: TaskRecord) -> None:
        self._record = record
        self.names = record.class_names
        self.ids = {name: i for i, name in enumerate(self.names)}
        self.takes = frozenset(record.order)
        self.taken = {self.names[i]: i for i in record.order}
        self.roots_C = merge_roots(record)
        self.merged = bool((self.roots_C != np.arange(len(self.names))).any())

    def __len__(self) -> int:
        return len(self.names)

    def id_of(self, name: str, retired: bool = False) -> int:
        """Id of a class by its name. Raises Refused(UNKNOWN_CLASS | CLASS_RETIRED); retired ones pass if asked for."""
        found = self.ids.get(name) if retired else self.taken.get(name)
        if found is None:
            raise self.refusal(name)
        return found

    def _of_id(self, name: str) -> str:
        """What to say to who gave the id of a class for its name."""
        if not (name.isascii() and name.isdecimal() and len(name) < 10 and int(name) < len(self.names)):
            return ""
        meant = self.names[int(name)]
        return f" Classes are said by their names; the one with the id {int(name)} is {meant!r}."

    @property
    def merges(self) -> npt.NDArray[np.int32] | None:
        """int32 [C]: the class that each class is counted as; None where none was merged."""
        return self.roots_C if self.merged else None

    def root(self, class_id: int) -> int:
        """The class that a class is counted as: itself, unless it was merged."""
        return int(self.roots_C[class_id])

    def refusal(self, name: str) -> Refused:
        """Why a name is not taken, and what to say instead."""
        class_id = self.ids.get(name)
        if class_id is None:
            listed = [self.names[i] for i in self._record.order[:_LISTED]]
            more = ", ..." if len(self._record.order) > _LISTED else ""
            known = ", ".join(listed) + more or "none"
            hint = near_class(name, self.names) or self._of_id(name)
            return Refused(
                Reason.UNKNOWN_CLASS,
                f"{name[:100]!r} is no class of the pool; its classes are: {known}.{hint}",
                class_name=name,
            )
        root = self.root(class_id)
        way_out = f"Say {self.names[root]!r}" if root != class_id else "Say another, or take it back into use"
        done = f"was merged into {self.names[root]!r}" if root != class_id else "is retired"
        return Refused(Reason.CLASS_RETIRED, f"class {name!r} {done}. {way_out}.", class_name=name)


def merge_roots(record: TaskRecord) -> npt.NDArray[np.int32]:
    """int32 [C]: the class that each class is counted as, chains followed to their end."""
    roots_C = np.array([each.id if each.merged_into is None else each.merged_into for each in record.classes], np.int32)
    # Each pass halves what is left of the longest chain.
    while not np.array_equal(further_C := roots_C[roots_C], roots_C):
        roots_C = further_C
    return roots_C


def resolve_merged(record: TaskRecord, codes_N: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Class ids with every merged class replaced by what it is counted as; -1 (none) stays."""
    roots_C = np.append(merge_roots(record), np.int32(-1))
    resolved_N: npt.NDArray[np.int32] = roots_C[codes_N]
    return resolved_N


def fold_columns(roots_C: npt.NDArray[np.int32], probs_NC: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Probabilities with the columns of merged classes added to what they are counted as, 0 left behind."""
    folded_NC = probs_NC.astype(np.float64)
    for class_id in np.flatnonzero(roots_C != np.arange(len(roots_C))):
        folded_NC[:, roots_C[class_id]] += folded_NC[:, class_id]
        folded_NC[:, class_id] = 0
    return folded_NC


def near_class(name: str, known: Sequence[str]) -> str:
    """What to say where a class differs in nothing that is easily seen: composed letters, case, space around it."""
    composed = unicodedata.normalize("NFC", name)
    for candidate in known:
        if unicodedata.normalize("NFC", candidate) == composed:
            return (
                f" It looks like {candidate!r}, whose letters are composed otherwise (Unicode NFC and NFD): write both "
                "in one form."
            )
        if unicodedata.normalize("NFC", candidate).strip().casefold() == composed.strip().casefold():
            return f" Is {candidate!r} meant?"
    return ""
