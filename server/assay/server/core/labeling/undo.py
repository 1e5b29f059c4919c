"""The last action of somebody, undone: by events that say the contrary, never by deletion."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling import annotating, history
from assay.server.core.labeling import standing as standings
from assay.server.core.labeling.annotating import Statement
from assay.server.core.labeling.messages import Deed, UndoResult, UndoSpec
from assay.server.core.labeling.standing import SAYING, Told
from assay.server.core.pools.pool import Change
from assay.server.core.ports.catalog import Catalog
from assay.server.core.records.annotations import NO_EVENT, EventBlock, EventKind, Values, none_of
from assay.server.core.records.arrays import MaskArray, RowArray
from assay.server.core.records.pools import State

Places = npt.NDArray[np.int64]

# Samples that a reply names.
MOST_NAMED = 100
BLOCKS_AT_ONCE = 8
# What the undoing of each kind of event says, where something stood before it, and where nothing did.
_AGAIN = {
    EventKind.CORRECT: EventKind.CORRECT,
    EventKind.WITHDRAW: EventKind.ANNOTATE,
    EventKind.VERDICT: EventKind.VERDICT,
    EventKind.RETRACT: EventKind.VERDICT,
    EventKind.SKIP: EventKind.SKIP,
}
_BACK = {
    EventKind.ANNOTATE: EventKind.WITHDRAW,
    EventKind.VERDICT: EventKind.RETRACT,
    EventKind.SKIP: EventKind.RESUME,
}
# What decides on what others said.
_JUDGING = (EventKind.VERDICT, EventKind.RETRACT)
_COUNTING = (*SAYING, EventKind.WITHDRAW, EventKind.RETRACT)


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """What somebody did in one request, event by event.

    Attributes:
        blocks: in order.
        rows_E, numbers_E, kinds_E: of each event.
        supersedes_E: the event that each took the place of, or took back; -1 for none.
        workers_E: whose each is.
    """

    blocks: list[EventBlock]
    rows_E: RowArray
    numbers_E: Places
    kinds_E: npt.NDArray[np.uint8]
    supersedes_E: Places
    workers_E: list[str]

    @classmethod
    def of(cls, blocks: list[EventBlock]) -> "Action":
        """The action of some blocks."""
        none = [np.full(len(block), NO_EVENT) if block.supersedes_N is None else block.supersedes_N for block in blocks]
        return cls(
            blocks,
            np.concatenate([block.rows_N for block in blocks]),
            np.concatenate([block.numbers_N for block in blocks]),
            np.concatenate([block.kinds_N for block in blocks]),
            np.concatenate(none),
            [block.worker for block in blocks for _ in range(len(block))],
        )

    @property
    def number(self) -> int:
        """Number of its first event."""
        return self.blocks[0].action_number

    @property
    def deeds(self) -> set[Deed]:
        """What may be needed to undo it."""
        others = any(block.worker != block.actor for block in self.blocks)
        judged = np.isin(self.kinds_E, _JUDGING).any()
        return ({Deed.OTHERS} if others else set()) | ({Deed.VERDICT} if judged else set())


class Undo:
    """One request to undo within one change.

    Args:
        change: the change that stores it.
        spec: whose action is undone.
        catalog: where the log is.
        now: seconds since the Unix epoch.
        read: reads what was said before.
    """

    def __init__(self, change: Change, spec: UndoSpec, catalog: Catalog, now: float, read: history.Read) -> None:
        self._change = change
        self._spec = spec
        self._catalog = catalog
        self._now = now
        self._read = read

    def apply(self) -> UndoResult:
        """Undoes the action in the snapshot to come; its samples are as before it, but for leases.

        Raises:
            AssayError: NOTHING_TO_UNDO; ALREADY_UNDONE; ACTION_OVERTAKEN where somebody built on it, or a sample of it
                is gone.
            Diverged: the log is not as the snapshot has it.
        """
        change, before = self._change, self._change.before
        action = Action.of(self._blocks())
        self._spec.permit(action.deeds)
        rows_R = np.unique(action.rows_E)
        self._check_there(action)
        last_events = before.last_events.at(rows_R).astype(np.int64, copy=False)
        told = standings.told(self._read, last_events, classes=before.values is None)
        self._check_current(action, told, rows_R)
        said = _restored(action, told)
        number = change.next_event
        for worker, places in self._groups(action, rows_R):
            annotating.append(
                change,
                self._read,
                Statement(
                    worker,
                    self._now,
                    action.rows_E[places],
                    said.kinds_E[places],
                    standings.take(said.values_E, places),
                    supersedes_N=action.numbers_E[places],
                    by=self._spec.worker,
                    action=number,
                    undoes=action.number,
                ),
            )
        ids = before.ids(rows_R[:MOST_NAMED])
        undone = tuple(EventKind(kind) for kind in np.unique(action.kinds_E).tolist())
        return UndoResult(len(action.rows_E), undone, tuple(filter(None, ids)), change.epoch, change.next_event - 1)

    def _blocks(self) -> list[EventBlock]:
        """The blocks of the action that is meant."""
        uid, worker = self._change.before.pool.uid, self._spec.worker
        with self._catalog.reading() as tx:
            if self._spec.event is None:
                found = tx.last_blocks(uid, worker, 1)
            else:
                numbers = np.array([self._spec.event])
                known = self._spec.event < self._change.before.pool.next_event
                found = [each for each in tx.blocks_of_events(uid, numbers) if each.actor == worker] if known else []
            if not found:
                what = "" if self._spec.event is None else f" of event {self._spec.event}"
                raise AssayError(
                    Reason.NOTHING_TO_UNDO, f"There is no action{what} of {worker!r} in this pool.", worker=worker
                )
            if found[0].undoes != NO_EVENT:
                raise AssayError(
                    Reason.ALREADY_UNDONE,
                    f"What {worker!r} did there was to undo the action of event {found[0].undoes}. Name an event of an "
                    "earlier action to undo that too, or say again what was undone.",
                    worker=worker,
                    event=found[0].undoes,
                )
            number, blocks = found[0].action_number, []
            while more := tx.event_blocks(uid, from_number=number, limit=BLOCKS_AT_ONCE):
                same = [block for block in more if block.action_number == found[0].action_number]
                blocks += same
                if len(same) < len(more):
                    break
                number = more[-1].first_number + len(more[-1])
        return blocks

    def _check_there(self, action: Action) -> None:
        states = self._change.before.states.at(action.rows_E)
        gone = np.flatnonzero(np.isin(states, (State.DELETED, State.ABSENT)))
        if len(gone):
            raise AssayError(
                Reason.ACTION_OVERTAKEN,
                f"{len(gone)} of its {len(action.rows_E)} samples were deleted or replaced since. Withdraw what was "
                "said of the others.",
                count=len(gone),
            )

    def _check_current(self, action: Action, told: Told, rows_R: RowArray) -> None:
        """Raises AssayError(ALREADY_UNDONE | ACTION_OVERTAKEN) if somebody built on the action."""
        self._check_standing(action, told)
        chains_E = np.searchsorted(rows_R, action.rows_E)
        # Nobody may have decided since; and nothing may be said anew where others have spoken since.
        again_R = np.zeros(len(rows_R), np.bool_)
        again_R[chains_E[action.supersedes_E != NO_EVENT]] = True
        own = np.isin(told.numbers_A, action.numbers_E)
        last_R = np.full(len(rows_R), -1, np.int64)
        np.maximum.at(last_R, chains_E, action.numbers_E)
        # What was said since and taken back since does not count.
        last_A = last_R[told.chains_A]
        older_A = (told.supersedes_A != NO_EVENT) & (told.supersedes_A <= last_A)
        stands_A = np.isin(told.kinds_A, SAYING) & ~np.isin(told.numbers_A, told.supersedes_A)
        later = (told.numbers_A > last_A) & ~own & (stands_A | older_A)
        judged = later & np.isin(told.kinds_A, _JUDGING)
        spoken = later & np.isin(told.kinds_A, _COUNTING) & again_R[told.chains_A]
        blocking = np.flatnonzero(judged | spoken)
        if len(blocking):
            self._refuse(told, int(blocking[0]), rows_R)

    def _check_standing(self, action: Action, told: Told) -> None:
        superseding = np.flatnonzero(np.isin(told.supersedes_A, action.numbers_E))
        if not len(superseding):
            return
        number = int(told.numbers_A[superseding[0]])
        (block,) = self._read(np.array([number]))
        if block.undoes == action.number:
            raise AssayError(
                Reason.ALREADY_UNDONE,
                f"The action of event {action.number} was undone already, by event {block.first_number}.",
                worker=self._spec.worker,
                event=action.number,
            )
        self._refuse(told, int(superseding[0]), np.unique(action.rows_E))

    def _refuse(self, told: Told, place: int, rows_R: RowArray) -> None:
        sample_id = self._change.before.ids(rows_R[[told.chains_A[place]]])[0]
        worker, kind = told.names[told.workers_A[place]], EventKind(int(told.kinds_A[place])).name.lower()
        raise AssayError(
            Reason.ACTION_OVERTAKEN,
            f"Of sample {sample_id!r} {worker!r} has spoken since ({kind}, event {told.numbers_A[place]}). Correct or "
            "withdraw what was said instead.",
            id=sample_id,
            worker=worker,
            event=int(told.numbers_A[place]),
        )

    def _groups(self, action: Action, rows_R: RowArray) -> Iterator[tuple[str, Places]]:
        """Events that fit one block each: of one worker, on distinct rows, ascending. What several said of a row comes
        back in the order in which it was said, for the newest may count."""
        order_E = np.where(action.supersedes_E == NO_EVENT, action.numbers_E, action.supersedes_E)
        places = np.lexsort((order_E, action.rows_E))
        rows = action.rows_E[places]
        firsts = np.searchsorted(rows, rows)
        ranks_E = np.empty(len(places), np.int64)
        ranks_E[places] = np.arange(len(places)) - firsts
        names, workers_E = np.unique(np.array(action.workers_E, object), return_inverse=True)
        for rank in range(int(ranks_E.max()) + 1):
            for worker, name in enumerate(names.tolist()):
                chosen = np.flatnonzero((ranks_E == rank) & (workers_E == worker))
                if len(chosen):
                    yield name, chosen[np.argsort(action.rows_E[chosen], kind="stable")]


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """What undoes each event of an action: its kind, and the value that is said again, if any."""

    kinds_E: npt.NDArray[np.uint8]
    values_E: Values


def _restored(action: Action, told: Told) -> Restored:
    skipped_E = _skipped_before(action, told)
    again_E: MaskArray = (action.supersedes_E != NO_EVENT) | skipped_E
    kinds = [
        _AGAIN[EventKind(kind)] if again else _BACK[EventKind(kind)]
        for kind, again in zip(action.kinds_E.tolist(), again_E.tolist(), strict=True)
    ]
    order = np.argsort(told.numbers_A)
    at = order[np.minimum(np.searchsorted(told.numbers_A, action.supersedes_E, sorter=order), len(order) - 1)]
    values = standings.take(told.values, at)
    says_E = (action.supersedes_E != NO_EVENT) & ~skipped_E
    return Restored(np.array(kinds, np.uint8), _only(values, says_E))


def _only(values: Values, which: MaskArray) -> Values:
    """A column without what is not among some places."""
    if isinstance(values, np.ndarray):
        return np.where(which, values, none_of(values)).astype(np.int32)  # type: ignore[arg-type]
    at = values.at(np.arange(len(values)))
    return type(values).of([value if kept else None for value, kept in zip(at, which.tolist(), strict=True)])


def _skipped_before(action: Action, told: Told) -> MaskArray:
    """Which events are skips of samples that the same worker had skipped before, and not taken up again."""
    skips_E: MaskArray = action.kinds_E == EventKind.SKIP
    if not skips_E.any():
        return skips_E
    gone = np.isin(told.numbers_A, told.supersedes_A)
    older = (told.kinds_A == EventKind.SKIP) & ~gone & ~np.isin(told.numbers_A, action.numbers_E)
    rows_R = np.unique(action.rows_E)
    before = {
        (int(rows_R[chain]), told.names[worker])
        for chain, worker in zip(told.chains_A[older].tolist(), told.workers_A[older].tolist(), strict=True)
    }
    known = [(row, worker) in before for row, worker in zip(action.rows_E.tolist(), action.workers_E, strict=True)]
    return skips_E & np.array(known, np.bool_)
