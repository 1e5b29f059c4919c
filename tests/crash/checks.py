"""Checks that ask a restarted server more than to list: contents, replays, unanswered requests, leases, the head."""

from collections.abc import Sequence
from dataclasses import fields, replace
from random import Random
from typing import Any

import numpy as np

from assay.client import Batch, Client, Lease, errors, ids
from tests.crash.content import CLASSES, STOCK, Content, embeddings_ND, part_of
from tests.crash.faults import require
from tests.crash.lease_requests import Next, Release, Renew, Submit
from tests.crash.ledger import Ledger
from tests.crash.model_requests import CUT_OFF, LongRequest
from tests.crash.requests import POOL, Add, Request
from tests.crash.seen import Seen
from tests.crash.verify import long_lived
from tests.crash.workers import IN_STOCK, ask

PROBE = "probe"
PAGE = 1000
SPARE_SECONDS = 20.0
SEARCHED = 10


# --- contents ------------------------------------------------------------------------------------------------------


def contents_are_right(client: Client, ledger: Ledger, chosen: Sequence[str]) -> None:
    """Payloads and embeddings are, byte for byte, those that were sent."""
    for start in range(0, len(chosen), PAGE):
        contents = [Content(sample, ledger.samples[sample]) for sample in chosen[start : start + PAGE]]
        _payloads_are_right(client, contents)
        _embeddings_are_right(client, contents)


def _payloads_are_right(client: Client, contents: Sequence[Content]) -> None:
    where = ids([content.id for content in contents])
    found = {sample.id: sample for sample in client.list_samples(POOL, where=where, include_payload=True)}
    require(len(found) == len(contents), f"{len(found)} of {len(contents)} samples are found by their ids")
    for content in contents:
        require(found[content.id].text == content.payload, f"sample {content.id} has another payload")


def _embeddings_are_right(client: Client, contents: Sequence[Content]) -> None:
    reply = client.predict(POOL, samples=[content.id for content in contents], include_embeddings=True)
    sent_ND = embeddings_ND(contents)
    assert reply.embeddings_ND is not None
    require(np.array_equal(reply.embeddings_ND, sent_ND), "embeddings are not those that were sent")
    hits = client.search(POOL, vectors=sent_ND[:SEARCHED], k=1, mode="exact").hits
    for content, (hit,) in zip(contents, hits, strict=False):
        require(hit.sample.id == content.id, f"the vector of {content.id} finds {hit.sample.id}")


# --- requests sent again -------------------------------------------------------------------------------------------


def settle(ledger: Ledger, seen: Seen) -> dict[str, Any]:
    """Notes what became of the requests in flight, as far as the server shows it; the facts found, by worker."""
    for request in ledger.half_done:
        part = request.found(ledger, seen)
        if part is not None:
            request.apply(ledger, part)
    ledger.half_done.clear()
    facts = {worker: request.found(ledger, seen) for worker, request in ledger.pending.items()}
    for worker, fact in facts.items():
        if fact is not None:
            ledger.pending[worker].apply(ledger, fact)
    return {worker: fact for worker, fact in facts.items() if fact is not None}


def unanswered_requests_take_effect_once(client: Client, ledger: Ledger, facts: dict[str, Any]) -> None:
    """Sent again under its id, a request that had landed gives its answer, and one that had not is done now.

    That nothing was done twice shows when the pool is verified again.
    """
    for worker, request in list(ledger.pending.items()):
        fact = facts.get(worker)
        try:
            reply = ledger.real(request.send(client))
        except errors.AssayError as error:
            require(fact is None or _cut_off(request, error), f"{request} had landed, and was then refused: {error}")
            ledger.refuse(worker, request, error)
            continue
        _same_fact(request, fact, reply)
        if isinstance(request, Renew) and fact is not None:
            # Its answer is that of then, by the wall clock of then; when the lease ends is what the server shows now.
            ledger.note_answer(worker, request, reply)
        else:
            ledger.acknowledge(worker, request, reply)


def _cut_off(request: Request, error: errors.AssayError) -> bool:
    return error.reason in CUT_OFF and isinstance(request, LongRequest)


def _same_fact(request: Request, fact: Any, reply: Any) -> None:
    name = getattr(fact, "name", None)
    require(name is None or request.fact(reply).name == name, f"{request} made {name}, and another one when repeated")


def answers_are_repeated(client: Client, ledger: Ledger, rng: Random) -> int:
    """Acknowledged requests, sent again, get the same answer; returns how many were."""
    repeated = 0
    for kind in (Next, Submit, Add):
        answered = [pair for pair in ledger.answered if isinstance(pair[0], kind)]
        for request, reply in rng.sample(answered, min(len(answered), 2)):
            again = ledger.real(request.send(client))
            differing = _differences(_untimed(reply), _untimed(again))
            require(not differing, f"{type(request).__name__} {request.request_id} is answered otherwise: {differing}")
            repeated += 1
    return repeated


def _untimed(reply: Any) -> Any:
    """Without the end of a lease, too: it is shown by the wall clock, which may have been set meanwhile."""
    if isinstance(reply, Batch):
        reply = replace(reply, lease=replace(reply.lease, expire_time=None))
    return replace(reply, timings={}) if hasattr(reply, "timings") else reply


def _differences(one: Any, other: Any) -> dict[str, tuple[Any, Any]]:
    pairs = {field.name: (getattr(one, field.name), getattr(other, field.name)) for field in fields(one)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


# --- leases --------------------------------------------------------------------------------------------------------


def leased_samples_are_not_handed_out(client: Client, ledger: Ledger, seen: Seen, rng: Random) -> None:
    """A large batch has only free samples."""
    held = {
        sample for lease in ledger.leases.values() if long_lived(lease, seen, SPARE_SECONDS) for sample in lease.ids
    }
    taken = held | ledger.labels.keys() | ledger.excluded
    free = sum(sample not in taken for sample in ledger.samples if part_of(sample) == STOCK)
    size = min(500, free // 2)
    seed = rng.randrange(1 << 30)
    batch = _probe(client, ledger, Next(worker=PROBE, size=size, ttl=60.0, where=IN_STOCK, seed=seed, again=True))
    require(not taken & set(batch.ids), f"a batch has samples that are taken: {sorted(taken & set(batch.ids))[:5]}")


def expired_samples_are_handed_out(client: Client, ledger: Ledger, seen: Seen, rng: Random) -> int:
    """What was in a lease when it expired can be leased again; returns how many samples were."""
    free = ledger.expired_free(seen.began)
    chosen = rng.sample(free, min(len(free), 50))
    if chosen:
        where = IN_STOCK & ids(chosen)
        _probe(client, ledger, Next(worker=PROBE, size=len(chosen), ttl=60.0, where=where, plan="random", again=True))
    return len(chosen)


def _probe(client: Client, ledger: Ledger, request: Next) -> Batch:
    """A batch that is given back at once."""
    batch = ask(client, ledger, PROBE, request)
    assert isinstance(batch, Batch), "nobody else is asking"
    ask(client, ledger, PROBE, Release(lease=batch.lease, ids=list(batch.ids)))
    return batch


def foreign_token_is_refused(client: Client, ledger: Ledger, seen: Seen) -> None:
    """A lease from before the crash is still fenced."""
    for held in ledger.leases.values():
        if long_lived(held, seen, SPARE_SECONDS):
            lease = replace(held.lease, fencing_token=held.lease.fencing_token + 1)
            _require_refused(client, min(held.ids), lease, errors.LeaseForeign)
            return


def expired_lease_is_refused(client: Client, ledger: Ledger, seen: Seen) -> None:
    """A lease that expired before the restart takes no labels."""
    for held in ledger.leases.values():
        # What was set aside since is refused for that.
        unlabeled = held.ids - ledger.labels.keys() - ledger.excluded
        if held.expires < seen.began and unlabeled:
            _require_refused(client, min(unlabeled), held.lease, errors.LeaseExpired)
            return


def _require_refused(client: Client, unlabeled: str, lease: Lease, expected: type[errors.AssayError]) -> None:
    try:
        client.annotate(POOL, {unlabeled: CLASSES[0]}, lease.worker, lease=lease)
    except expected:
        return
    require(False, f"a label under {lease} was taken")


# --- the model -----------------------------------------------------------------------------------------------------


def active_head_works(client: Client, ledger: Ledger) -> None:
    """The active head scores the pool, and the scores are numbers."""
    result = client.mine(POOL, 50, "margin", where=IN_STOCK)
    require(result.provenance.head == ledger.active, f"{result.provenance.head} scored, not {ledger.active}")
    require(bool(np.isfinite([pick.score for pick in result.picks]).all()), "scores are not finite")
    chosen = [pick.id for pick in result.picks]
    probs_NC = client.predict(POOL, samples=chosen).probs_NC
    assert probs_NC is not None
    require(bool(np.allclose(probs_NC.sum(axis=1), 1.0, atol=1e-4)), "probabilities do not sum to 1")


def operations_have_ended(client: Client, ledger: Ledger, rng: Random) -> None:
    """Every operation that was started is known, and none is left running by a crash."""
    started = [request.operation for request in ledger.pending.values() if isinstance(request, LongRequest)]
    started += rng.sample(ledger.operations, min(len(ledger.operations), 5))
    for name in filter(None, started):
        require(client.get_operation(name).is_done, f"{name} still runs, and nobody works at it")
