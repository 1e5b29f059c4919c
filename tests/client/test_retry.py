"""When calls are tried again."""

from datetime import timedelta

import pytest

from assay.client import errors
from assay.client.retry import Budget, Contact, RetryPolicy

GONE = errors.Unavailable("gone")
BUSY = errors.ResourceExhausted("busy", retry_after=timedelta(seconds=2))


def test_backoff_grows_up_to_its_limit() -> None:
    policy = RetryPolicy(attempts=6, initial=1.0, multiplier=2.0, longest=5.0)
    assert [policy.wait(GONE, tried, 1.0) for tried in range(1, 7)] == [1, 2, 4, 5, 5, None]


def test_jitter_takes_a_share_of_the_backoff() -> None:
    policy = RetryPolicy(initial=1.0)
    assert policy.wait(GONE, 1, 0.25) == 0.25
    assert policy.wait(GONE, 1, 0.0) == 0.0


def test_the_server_is_given_the_time_it_asks_for() -> None:
    policy = RetryPolicy(initial=1.0, longest=1.0)
    assert policy.wait(BUSY, 1, 0.5) == 2.5
    assert policy.wait(errors.Unavailable("later", retry_after=timedelta(seconds=9)), 1, 1.0) == 9


def test_a_lost_race_is_run_again() -> None:
    assert RetryPolicy(initial=1.0).wait(errors.Aborted("raced", retry_after=timedelta(seconds=0.5)), 1, 0.5) == 1.0


@pytest.mark.parametrize(
    "error",
    [
        errors.ResourceExhausted("disk full", retry_after=timedelta(minutes=1)),
        errors.Aborted("raced"),
        errors.ResourceExhausted("message too large"),
        errors.DeadlineExceeded("late"),
        errors.FailedPrecondition("no", retry_after=timedelta(seconds=1)),
        errors.Internal("bug"),
        errors.Cancelled("stop"),
    ],
)
def test_other_errors_are_final(error: errors.AssayError) -> None:
    assert RetryPolicy().wait(error, 1, 0.0) is None


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_no_try_starts_after_the_deadline() -> None:
    clock = Clock()
    budget = Budget(RetryPolicy(initial=4.0, longest=4.0), 10.0, Contact(), clock, lambda: 1.0)
    assert budget.remaining() == 10
    assert budget.wait(GONE) == 4
    clock.now += 7
    assert budget.remaining() == 3
    assert budget.wait(GONE) is None
    clock.now += 5
    assert budget.remaining() == 0


def test_tries_may_be_limited() -> None:
    budget = Budget(RetryPolicy(attempts=3, initial=1.0, longest=9.0), None, Contact(), Clock(), lambda: 1.0)
    assert budget.remaining() is None
    assert [budget.wait(GONE), budget.wait(GONE), budget.wait(GONE)] == [1, 2, None]


def test_one_attempt_never_tries_again() -> None:
    assert Budget(RetryPolicy(attempts=1), None, Contact()).wait(GONE) is None
    assert Budget(RetryPolicy(outage=0), None, Contact()).wait(GONE) is None


def outage(budget: Budget, clock: Clock, refused_after: float = 0.0) -> float:
    """Seconds until a budget gives up a server that is away, each try refused after so long."""
    start = clock.now
    while True:
        clock.now += refused_after
        pause = budget.wait(GONE)
        if pause is None:
            return clock.now - start
        clock.now += pause


@pytest.mark.parametrize("jitter", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("refused_after", [0.0, 0.01, 5.0])
def test_an_outage_is_ridden_out_with_or_without_a_deadline(jitter: float, refused_after: float) -> None:
    for seconds, least in ((60.0, 50.0), (None, 50.0), (20.0, 14.0)):
        clock = Clock()
        budget = Budget(RetryPolicy(), seconds, Contact(), clock, lambda: jitter)
        assert least <= outage(budget, clock, refused_after) <= 71.0


def test_a_stream_that_went_on_for_a_while_has_all_its_time_again() -> None:
    clock = Clock()
    budget = Budget(RetryPolicy(outage=30), None, Contact(), clock, lambda: 1.0)
    for _ in range(3):
        clock.now += 600  # sent well
        assert budget.wait(GONE) == 0.1
        clock.now += 20  # away
        assert budget.wait(GONE) is not None
    assert 25 <= outage(budget, clock) <= 31


def test_a_server_that_never_answered_may_be_given_up_sooner() -> None:
    clock, contact = Clock(), Contact()
    policy = RetryPolicy(connect=2)
    assert outage(Budget(policy, None, contact, clock, lambda: 1.0), clock) <= 2
    contact.note(GONE)
    assert not contact.answered
    contact.note(errors.Unavailable("starting", reason="STARTING"))
    assert contact.answered
    assert outage(Budget(policy, None, contact, clock, lambda: 1.0), clock) > 50


def test_a_great_many_tries_do_not_overflow() -> None:
    assert RetryPolicy().wait(GONE, 100_000, 1.0) == 1.0
