"""What became of a call that may be refused."""

import pytest

from assay.server.core.errors import AssayError


def outcome(call, *arguments):
    """(value, None) of a call, or (None, reason) if it was refused."""
    try:
        return call(*arguments), None
    except AssayError as error:
        return None, error.reason


def assert_refused(reason, call, *arguments):
    """Asserts that a call is refused for this very reason."""
    with pytest.raises(AssayError) as caught:
        call(*arguments)
    assert caught.value.reason is reason
