"""The port `Heads`: from labels to a served head."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from assay.server.adapters.torch_head import inference, storage
from assay.server.adapters.torch_head.multilabel import train_multilabel
from assay.server.adapters.torch_head.multinomial import train_multinomial
from assay.server.adapters.torch_head.ridge import train_ridge
from assay.server.adapters.torch_head.tensors import one_thread
from assay.server.adapters.torch_head.training import Asked
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.models import ClassTargets, HeadWeights, SetTargets, Targets, TrainedHead
from assay.strategies import Interrupted, interruptible

_SMALL = 1_000_000_000  # labels x dimension x outputs: up to about 0.1 s a step on one core


class TorchHeads:
    """Linear heads. Stateless, safe to call from several threads."""

    def train(
        self,
        embeddings_ND: FloatArray,
        targets: Targets,
        weights_N: npt.NDArray[np.float64] | None = None,
        *,
        l2: float | None,
        balanced: bool,
        members: int,
        folds: int,
        seed: int,
        progress: Callable[[int, int], None],
        stop: Callable[[], bool],
    ) -> TrainedHead:
        """Minimises the mean loss + l2 / 2 |W|^2 (bias free) to its optimum in float64; deterministic under the seed.

        The loss is the cross-entropy for one class, the sum over the classes of that of each class's own sigmoid for
        sets of classes, and half the square of the error, in deviations of its target, for numbers. Without l2, the
        strength with the least held-out loss (at its best calibration) of a log grid in units of the total variance of
        the embeddings is taken, the stronger of near ties. Metrics are of out-of-fold predictions, those of each fold
        as the other folds calibrate them.

        One class: a temperature is fitted on out-of-fold logits and divided into the weights. With balanced, a sample's
        loss is weighted in inverse proportion to the count of its class. Sets of classes: each class gets a slope and
        an offset of its own on its logits and the threshold of the best F1, from held-out samples; with balanced, those
        that have a class and those that do not weigh alike. A class that all samples have, or none, gets its smoothed
        frequency. Numbers: nothing is calibrated, and balanced means nothing.

        Where nothing can be held out: temperature 1, l2 0.001 of the total variance, and no metrics. Of several members
        the first is the fit on all labels, the others are fits on labels drawn again (of one class: within each class;
        else by Rubin's Bayesian bootstrap, in which every sample keeps some weight), at the same l2 and calibration.

        Args:
            embeddings_ND: float32 embeddings of the labeled samples, finite.
            targets: what they are labeled with. Classes without a label get a probability below e^-30.
            weights_N: how much each sample counts, above 0; None lets all count alike.
            l2: strength, or None to choose.
            balanced: whether classes count alike.
            members: heads of the committee; 0 or 1 for none.
            folds: parts of the cross-validation; fewer where there are fewer samples to hold out.
            seed: of folds and bootstraps.
            progress: told (fits done, fits in all).
            stop: asked before every block of work whether to give up.

        Raises:
            AssayError: TOO_FEW_CLASSES if fewer than two classes have a label, or no class of sets tells samples apart;
                TOO_FEW_LABELS if there are fewer than two numbers; NOT_FINITE if the embeddings are so large that their
                squares overflow; CANCELLED.
        """
        asked = Asked(l2, balanced, max(1, members), folds, seed & ((1 << 64) - 1), progress)
        weights = np.ones(len(embeddings_ND)) if weights_N is None else weights_N
        with _stopped_by(stop), one_thread() if _small(embeddings_ND, targets) else nullcontext():
            if isinstance(targets, ClassTargets):
                return train_multinomial(embeddings_ND, targets, weights, asked)
            if isinstance(targets, SetTargets):
                return train_multilabel(embeddings_ND, targets, weights, asked)
            return train_ridge(embeddings_ND, targets, weights, asked)

    def encode(self, weights: HeadWeights) -> bytes:
        """Weights as a file: a fixed header with a checksum, then the arrays."""
        return storage.encode(weights)

    def decode(self, stream: BinaryIO) -> HeadWeights:
        """Weights from a file. Raises AssayError(SEGMENT_DAMAGED)."""
        return storage.decode(stream)

    def predict(self, weights: HeadWeights, embeddings_ND: FloatArray, out_NC: FloatArray) -> None:
        """Writes what the first member says of a block into out: one matrix product, no copies."""
        inference.predict(weights, embeddings_ND, out_NC)

    def predict_members(self, weights: HeadWeights, embeddings_ND: FloatArray, columns: int) -> FloatArray:
        """What every member says of a block [K, N, columns]."""
        return inference.predict_members(weights, embeddings_ND, columns)


def _small(embeddings_ND: FloatArray, targets: Targets) -> bool:
    if isinstance(targets, ClassTargets):
        # Only classes with a label have weights.
        outputs = len(np.unique(targets.classes_N)) if targets.probs_NC is None else targets.class_count
    else:
        outputs = (targets.members_NC if isinstance(targets, SetTargets) else targets.values_NT).shape[1]
    return embeddings_ND.size * outputs <= _SMALL


@contextmanager
def _stopped_by(stop: Callable[[], bool]) -> Iterator[None]:
    """Ends the block with AssayError(CANCELLED) once stop() is true."""
    try:
        with interruptible(stop):
            yield
    except Interrupted:
        if not stop():
            raise
        raise AssayError(Reason.CANCELLED, "The training was cancelled. Nothing was changed.") from None
