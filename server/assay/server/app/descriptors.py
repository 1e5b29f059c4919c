"""File descriptors: every connection takes one, and so does every file that is opened beside them."""

import resource
from contextlib import suppress

# Enough for any server; some systems allow a billion, and what walks through all of them would never end.
MOST = 65_536


def limit() -> int:
    """How many this process may have open at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else min(soft, MOST)


def raise_limit() -> None:
    """Raises the limit as far as an ordinary user may. Shells give 1,024, which a thousand idle sockets use up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # then as many as before must do
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
