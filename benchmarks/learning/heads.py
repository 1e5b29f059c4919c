"""The heads that are trained anew after each round: one for each kind of prediction, each linear on frozen features."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, r2_score

from assay.strategies import Need
from assay.strategies.serving import PredictionKind
from benchmarks.learning.data import DataSet

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

# Stands for the logit of a class that no label has shown yet.
_UNSEEN = -50.0
MEMBERS = 10

QUALITIES = {
    PredictionKind.CLASSES: "accuracy",
    PredictionKind.LABELS: "micro F1",
    PredictionKind.VALUES: "R2",
}


class Head(Protocol):
    """A trained head."""

    def arrays(self, pool_ND: Floats, labeled_LD: Floats) -> dict[Need, Any]:
        """What it gives to strategies, of samples of the pool and of labeled ones."""

    def quality(self, data: DataSet) -> float:
        """How good it is on the held-out samples, as QUALITIES names it."""


def train(data: DataSet, labeled: Rows, seed: int) -> Head:
    """The head of the data set's kind, on the labeled samples, in the float32 that a server would hold."""
    if data.kind is PredictionKind.LABELS:
        return LabelsHead(data, labeled)
    if data.kind is PredictionKind.VALUES:
        return ValuesHead(data, labeled, np.random.default_rng(seed))
    return ClassesHead(data, labeled)


class ClassesHead:
    """Multinomial logistic regression over all classes, those not seen yet included."""

    def __init__(self, data: DataSet, labeled: Rows) -> None:
        classes_L = data.pool_targets[labeled]
        classes = int(max(data.pool_targets.max(), data.held_out_targets.max())) + 1
        self.weights_CD: Floats = np.zeros((classes, data.pool_ND.shape[1]), np.float32)
        self.bias_C: Floats = np.full(classes, _UNSEEN, np.float32)
        seen = np.unique(classes_L)
        if len(seen) == 1:
            self.bias_C[seen] = 0
            return
        model = LogisticRegression(C=data.inverse_l2, max_iter=200, tol=1e-3).fit(data.pool_ND[labeled], classes_L)
        if len(seen) == 2:
            self.weights_CD[seen[1]], self.bias_C[seen] = model.coef_[0], (0, model.intercept_[0])
        else:
            self.weights_CD[seen], self.bias_C[seen] = model.coef_, model.intercept_

    def arrays(self, pool_ND: Floats, labeled_LD: Floats) -> dict[Need, Any]:
        return {
            Need.LOGITS: self._logits(pool_ND),
            Need.LABELED_PROBS: softmax(self._logits(labeled_LD), axis=1),
            Need.HEAD_WEIGHTS: self.weights_CD,
            Need.HEAD_BIAS: self.bias_C,
        }

    def quality(self, data: DataSet) -> float:
        return float((self._logits(data.held_out_MD).argmax(axis=1) == data.held_out_targets).mean())

    def _logits(self, embeddings_ND: Floats) -> Floats:
        logits_NC: Floats = embeddings_ND @ self.weights_CD.T + self.bias_C
        return logits_NC


class LabelsHead:
    """A logistic regression for each label by itself, all fitted at once; a label that was always or never given has
    its rate, by the rule of succession."""

    def __init__(self, data: DataSet, labeled: Rows) -> None:
        given_LC = data.pool_targets[labeled].astype(np.float64)
        rates_C = (given_LC.sum(axis=0) + 0.5) / (len(labeled) + 1)
        self.weights_CD: Floats = np.zeros((given_LC.shape[1], data.pool_ND.shape[1]), np.float32)
        self.bias_C: Floats = np.log(rates_C / (1 - rates_C)).astype(np.float32)
        varied = np.flatnonzero(given_LC.any(axis=0) & ~given_LC.all(axis=0))
        if len(varied):
            weights, self.bias_C[varied] = _logistic(
                data.pool_ND[labeled].astype(np.float64), given_LC[:, varied], self.bias_C[varied], data.inverse_l2
            )
            self.weights_CD[varied] = weights

    def arrays(self, pool_ND: Floats, labeled_LD: Floats) -> dict[Need, Any]:
        return {Need.LABEL_PROBS: self._probs(pool_ND)}

    def quality(self, data: DataSet) -> float:
        found = self._probs(data.held_out_MD) > 0.5
        return float(f1_score(data.held_out_targets, found, average="micro", zero_division=0.0))

    def _probs(self, embeddings_ND: Floats) -> Floats:
        return expit(embeddings_ND @ self.weights_CD.T + self.bias_C).astype(np.float32)


class ValuesHead:
    """Ridge regression, and a committee of it on bootstrap samples for the scatter. Targets are in deviations of the
    labeled ones."""

    def __init__(self, data: DataSet, labeled: Rows, rng: np.random.Generator) -> None:
        values_LT = data.pool_targets[labeled]
        self._mean_T = values_LT.mean(axis=0)
        self._deviation_T = np.maximum(values_LT.std(axis=0), 1e-12)
        scaled_LT = (values_LT - self._mean_T) / self._deviation_T
        inputs_LD = data.pool_ND[labeled].astype(np.float64)
        self._whole = _ridge(inputs_LD, scaled_LT, 1 / data.inverse_l2)
        draws_KL = rng.integers(0, len(labeled), (MEMBERS, len(labeled)))
        self._members = [_ridge(inputs_LD[drawn], scaled_LT[drawn], 1 / data.inverse_l2) for drawn in draws_KL]

    def arrays(self, pool_ND: Floats, labeled_LD: Floats) -> dict[Need, Any]:
        members = [(pool_ND @ weights_DT + bias_T).astype(np.float32) for weights_DT, bias_T in self._members]
        return {Need.MEMBER_VALUES: np.stack(members)}

    def quality(self, data: DataSet) -> float:
        weights_DT, bias_T = self._whole
        predicted_MT = (data.held_out_MD @ weights_DT + bias_T) * self._deviation_T + self._mean_T
        return float(r2_score(data.held_out_targets, predicted_MT))


def _logistic(
    inputs_LD: NDArray[np.float64], given_LC: NDArray[np.float64], bias_C: Floats, inverse_l2: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights and bias of each label, by L-BFGS on the sum of their losses, which have nothing in common."""
    shape = (given_LC.shape[1], inputs_LD.shape[1] + 1)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights_CD, bias_C = flat.reshape(shape)[:, :-1], flat.reshape(shape)[:, -1]
        logits_LC = inputs_LD @ weights_CD.T + bias_C
        errors_LC = inverse_l2 * (expit(logits_LC) - given_LC)
        gradient_CE = np.concatenate([errors_LC.T @ inputs_LD + weights_CD, errors_LC.sum(axis=0)[:, None]], axis=1)
        fit = inverse_l2 * (np.logaddexp(0, logits_LC) - given_LC * logits_LC).sum()
        return float(fit + (weights_CD**2).sum() / 2), gradient_CE.ravel()

    start_CE = np.zeros(shape)
    start_CE[:, -1] = bias_C
    options = {"maxiter": 200, "ftol": 1e-6}
    fitted_CE = minimize(loss, start_CE.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(shape)
    return fitted_CE[:, :-1], fitted_CE[:, -1]


def _ridge(
    inputs_LD: NDArray[np.float64], values_LT: NDArray[np.float64], l2: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (D, T) and bias (T,) of least squares with an L2 penalty on the weights."""
    centre_D, mean_T = inputs_LD.mean(axis=0), values_LT.mean(axis=0)
    centred_LD = inputs_LD - centre_D
    gram_DD = centred_LD.T @ centred_LD + l2 * np.eye(inputs_LD.shape[1])
    weights_DT = np.linalg.solve(gram_DD, centred_LD.T @ (values_LT - mean_T))
    return weights_DT, mean_T - centre_D @ weights_DT
