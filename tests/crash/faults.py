"""A broken promise."""


class BrokenPromise(AssertionError):
    """The server lost, halved, doubled or made up something."""


def require(kept: bool, promise: str) -> None:
    """Raises BrokenPromise, with words, unless it was kept."""
    if not kept:
        raise BrokenPromise(promise)


def require_same(found: set[str], expected: set[str], what: str) -> None:
    """Raises BrokenPromise naming what is missing and what nobody sent."""
    missing, unknown = sorted(expected - found), sorted(found - expected)
    require(not missing, f"{len(missing)} acknowledged {what} lost: {missing[:5]}")
    require(not unknown, f"{len(unknown)} {what} that nobody sent or that were deleted: {unknown[:5]}")
