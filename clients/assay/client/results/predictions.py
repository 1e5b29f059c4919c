"""What calls about predictions return."""

from dataclasses import dataclass

from assay.client.results.models import HeadMetrics


@dataclass(frozen=True, slots=True)
class UpdatePredictionsResult:
    """How many samples' predictions were taken, and the epoch after it."""

    updated: int
    epoch: int


@dataclass(frozen=True, slots=True)
class PredictionSource:
    """A model of the caller's own, by what it said of samples.

    Attributes:
        name: resource name.
        id: what plans call it.
        samples: how many it predicts.
        lost: predictions that were lost with a damaged file; push them again.
        has_spread: in a regression, whether it says how sure it is of its numbers.
        size_bytes: of its files.
        update_epoch: of the pool at its last update.
        all_metrics: what it is worth on the samples that are set apart, if that was asked for: by split, "test" first.
    """

    name: str
    id: str
    samples: int
    lost: int
    has_spread: bool
    size_bytes: int
    update_epoch: int
    all_metrics: tuple[HeadMetrics, ...] = ()

    @property
    def metrics(self) -> HeadMetrics:
        """Those to go by; without any measures where nothing is held out, or they were not asked for."""
        return self.all_metrics[0] if self.all_metrics else HeadMetrics()
