"""What calls about labels and about those who label return."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often an annotator said a class of samples whose label is another one, or the same."""

    label: str
    said: str
    count: int


@dataclass(frozen=True, slots=True)
class Annotator:
    """What one annotator did.

    Attributes:
        annotator: who.
        annotations: that stand: neither superseded nor withdrawn.
        median_seconds: that one took; None where no time is known.
        compared: samples of theirs that have a label and were annotated by others too.
        agreement: mean agreement with the labels of those, 0 to 1; None where there are none.
        skill: estimated probability that an answer is right; None for who shares no sample with others.
        confusion: in a classification, over the samples that were compared: the most frequent first.
    """

    annotator: str
    annotations: int
    median_seconds: float | None
    compared: int
    agreement: float | None
    skill: float | None
    confusion: tuple[Confusion, ...]


@dataclass(frozen=True, slots=True)
class ResolveResult:
    """What `resolve_labels` did.

    Attributes:
        samples: whose annotations are all there, and that no verdict settles.
        changed: whose label is another one now, or none.
        disputed: where the annotations do not decide.
        overtaken: of which something was said meanwhile: they keep the label that followed from that.
        converged: whether more iterations would have changed next to nothing.
        epoch: of the pool afterwards.
    """

    samples: int
    changed: int
    disputed: int
    overtaken: int
    converged: bool
    epoch: int


@dataclass(frozen=True, slots=True)
class KindFindings:
    """What an audit found of one kind.

    Attributes:
        kind: "model", "neighbors", "annotators" or "duplicates".
        samples: that it looked at.
        found: suspects among them.
        kept: of these, the ones with the highest scores, which are listed.
        left_out: why nothing of the kind was looked at; "" where it was.
    """

    kind: str
    samples: int
    found: int
    kept: int
    left_out: str


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What `audit_pool` found: by kind, and how many different samples are suspects. `epoch` is the pool's
    afterwards."""

    kinds: tuple[KindFindings, ...]
    suspects: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """A label that is probably wrong.

    Attributes:
        sample_id: of the sample.
        kind: what contradicts it: "model", "neighbors", "annotators" or "duplicates".
        score: how strongly, above 0 and up to 1.
        label: in a classification, the class that the sample is labeled as; "" where it has none.
        suggested: in a classification, the class that is likelier; "" where nothing suggests one.
    """

    sample_id: str
    kind: str
    score: float
    label: str
    suggested: str
