"""The way to the core, shut while the core opens its pools."""

from assay.server.core.assay import Assay
from assay.server.rpc.errors import EdgeError, EdgeReason


class Gate:
    """Holds the core once it is open."""

    def __init__(self) -> None:
        self._core: Assay | None = None

    def open(self, core: Assay) -> None:
        """Lets calls through to a core."""
        self._core = core

    @property
    def is_open(self) -> bool:
        """Whether calls go through."""
        return self._core is not None

    @property
    def core(self) -> Assay:
        """The core. Raises EdgeError(STARTING) while it is not open."""
        if self._core is None:
            raise EdgeError(EdgeReason.STARTING, "The server is still opening its pools. Try again in a moment.")
        return self._core
