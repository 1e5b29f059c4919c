"""The stop of a computation: asked at checkpoints, in this thread only, the first of several to turn true."""

import threading

import pytest

from assay.strategies import Interrupted, checkpoint, interruptible


def test_without_a_stop_a_checkpoint_does_nothing():
    checkpoint()


def test_a_checkpoint_asks_once_and_raises_when_told_to():
    answers = iter([False, False, True])
    with interruptible(lambda: next(answers)):
        checkpoint()
        checkpoint()
        with pytest.raises(Interrupted):
            checkpoint()
    assert next(answers, None) is None


def test_the_stop_ends_with_its_block():
    with interruptible(lambda: True):
        pass
    checkpoint()


def test_the_stop_ends_with_a_block_that_fails():
    with pytest.raises(KeyError), interruptible(lambda: True):
        raise KeyError
    checkpoint()


@pytest.mark.parametrize(("outer", "inner"), [(True, False), (False, True)])
def test_of_two_blocks_the_first_to_turn_true_counts(outer, inner):
    with interruptible(lambda: outer), interruptible(lambda: inner), pytest.raises(Interrupted):
        checkpoint()


def test_another_thread_is_not_stopped():
    passed = []

    def other():
        checkpoint()
        passed.append(True)

    with interruptible(lambda: True):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert passed
