"""When work ends before it is done: for which reason, in whose scope, and who is told."""

import threading
import time

import pytest

from assay.server.core.errors import AssayError, Reason
from assay.server.core.stop import Stop, current_stop
from assay.strategies import Interrupted, checkpoint, interruptible


def past() -> Stop:
    return Stop(deadline=time.monotonic() - 1.0)


def refused(work) -> Reason:
    with pytest.raises(AssayError) as caught:
        work()
    return caught.value.reason


def test_a_stop_that_nobody_requests_lets_work_go_on():
    stop = Stop.after(3600.0)
    assert not stop.requested()
    stop.check()
    with stop.scope():
        checkpoint()


@pytest.mark.parametrize("reason", [Reason.CANCELLED, Reason.DEADLINE_EXCEEDED, Reason.SHUTTING_DOWN])
def test_the_work_is_told_why_it_ends(reason):
    stop = Stop()
    stop.request(reason)
    assert stop.requested()
    assert refused(stop.check) == reason


def test_of_several_reasons_the_first_counts():
    stop = Stop()
    stop.request(Reason.SHUTTING_DOWN)
    stop.request(Reason.CANCELLED)
    assert refused(stop.check) == Reason.SHUTTING_DOWN


def test_work_ends_for_no_other_reason():
    with pytest.raises(ValueError, match="BUSY"):
        Stop().request(Reason.BUSY)


def test_a_deadline_needs_nobody_to_request_it():
    stop = past()
    assert stop.requested()
    assert stop.remaining() == 0.0
    assert refused(stop.check) == Reason.DEADLINE_EXCEEDED


def test_what_remains():
    assert Stop().remaining() is None
    stop = Stop.after(3600.0)
    assert 3500.0 < stop.remaining() <= 3600.0
    stop.request()
    assert stop.remaining() == 0.0


def test_a_checkpoint_in_the_scope_ends_it_with_the_reason():
    def work():
        with past().scope():
            checkpoint()

    assert refused(work) == Reason.DEADLINE_EXCEEDED
    checkpoint()


def test_an_interruption_that_another_asked_for_passes_the_scope_by():
    with pytest.raises(Interrupted), interruptible(lambda: True), Stop().scope():
        checkpoint()


def test_of_nested_scopes_the_one_that_stopped_says_why():
    outer = Stop()
    outer.request(Reason.SHUTTING_DOWN)

    def work():
        with outer.scope(), Stop().scope():
            checkpoint()

    assert refused(work) == Reason.SHUTTING_DOWN


def test_the_current_stop_is_that_of_the_scope():
    outer, inner = Stop(), Stop()
    with outer.scope():
        assert current_stop() is outer
        with inner.scope():
            assert current_stop() is inner
        assert current_stop() is outer
    assert current_stop() is not outer


def test_outside_of_a_scope_nothing_is_requested():
    current_stop().request()
    assert not current_stop().requested()


def test_a_listener_is_told_once():
    stop, told = Stop(), []
    with stop.listening(lambda: told.append(1)):
        assert not told
        stop.request()
        stop.request()
        assert told == [1]
    assert told == [1]


def test_a_listener_that_comes_late_is_told_at_once():
    stop, told = Stop(), []
    stop.request()
    with stop.listening(lambda: told.append(1)):
        assert told == [1]


def test_a_listener_is_told_of_a_deadline():
    told = threading.Event()
    with Stop.after(0.01).listening(told.set):
        assert told.wait(60.0)


def test_a_listener_is_not_told_after_its_block():
    stop, told = Stop(), []
    with stop.listening(lambda: told.append(1)):
        pass
    stop.request()
    assert not told
