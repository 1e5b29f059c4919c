"""Resource names: "pools/{pool}", and below it "samples/{sample}", "models/{model}", "leases/{lease}",
"annotations/{annotation}" and "operations/{operation}". What comes after "samples/" is the sample's id as its user gave
it, slashes too."""

import re

from assay.server.core.errors import AssayError, Reason

_ID = r"([A-Za-z0-9][A-Za-z0-9_-]{0,127})"
_POOL = re.compile(rf"pools/{_ID}")
_MODEL = re.compile(rf"pools/{_ID}/models/{_ID}")
_LEASE = re.compile(rf"pools/{_ID}/leases/{_ID}")
_ANNOTATION = re.compile(rf"pools/{_ID}/annotations/([0-9]{{1,18}})")
_OPERATION = re.compile(rf"pools/{_ID}/operations/{_ID}")
_OPERATIONS = re.compile(rf"pools/(?:{_ID}|-)(?:/operations)?")
_SOURCE = re.compile(rf"pools/{_ID}/predictionSources/{_ID}")
_SAMPLE = re.compile(rf"pools/{_ID}/samples/(.+)", re.DOTALL)
_ANY = re.compile(rf"pools/{_ID}(?:/.*)?", re.DOTALL)
_SHOWN = 200


def _match(pattern: re.Pattern[str], name: str, shape: str) -> re.Match[str]:
    match = pattern.fullmatch(name)
    if match is None:
        shown = name[:_SHOWN]
        raise AssayError(Reason.INVALID_NAME, f'{shown!r} is no resource name of the form "{shape}".', name=shown)
    return match


def parse_pool(name: str) -> str:
    """Pool id of a pool's name. Raises AssayError(INVALID_NAME), as all here."""
    return _match(_POOL, name, "pools/{pool}")[1]


def parse_model(name: str) -> tuple[str, str]:
    """Pool id and model id of a model's name."""
    match = _match(_MODEL, name, "pools/{pool}/models/{model}")
    return match[1], match[2]


def parse_source(name: str) -> tuple[str, str]:
    """Pool id and id of a prediction source's name."""
    match = _match(_SOURCE, name, "pools/{pool}/predictionSources/{prediction_source}")
    return match[1], match[2]


def parse_lease(name: str) -> tuple[str, str]:
    """Pool id and lease id of a lease's name."""
    match = _match(_LEASE, name, "pools/{pool}/leases/{lease}")
    return match[1], match[2]


def parse_sample(name: str) -> tuple[str, str]:
    """Pool id and sample id of a sample's name."""
    match = _match(_SAMPLE, name, "pools/{pool}/samples/{sample}")
    return match[1], match[2]


def parse_operation(name: str) -> tuple[str, str]:
    """Pool id and operation id of an operation's name."""
    match = _match(_OPERATION, name, "pools/{pool}/operations/{operation}")
    return match[1], match[2]


def parse_operations(name: str) -> str:
    """Pool id of a collection of operations, "pools/{pool}"; "" for those of all pools, "pools/-"."""
    return _match(_OPERATIONS, name, "pools/{pool}")[1] or ""


def annotation_within(pool_id: str, name: str) -> int:
    """Event number of an annotation of this very pool."""
    match = _match(_ANNOTATION, name, "pools/{pool}/annotations/{annotation}")
    return int(_within(pool_id, match[1], match[2]))


def pool_of(name: str) -> str:
    """Id of the pool that a resource's name begins with; "" for a name of another form."""
    match = _ANY.fullmatch(name)
    return match[1] if match else ""


def model_within(pool_id: str, name: str) -> str:
    """Id of a model of this very pool; "" for an empty name."""
    return _within(pool_id, *parse_model(name)) if name else ""


def lease_within(pool_id: str, name: str) -> str:
    """Id of a lease of this very pool; "" for an empty name."""
    return _within(pool_id, *parse_lease(name)) if name else ""


def _within(pool_id: str, owner: str, child: str) -> str:
    if owner != pool_id:
        raise AssayError(
            Reason.INVALID_NAME, f"{child!r} belongs to pool {owner!r}, but the request is for {pool_id!r}."
        )
    return child


def pool_name(pool_id: str) -> str:
    """Name of a pool."""
    return f"pools/{pool_id}"


def sample_name(pool_id: str, sample_id: str) -> str:
    """Name of a sample."""
    return f"pools/{pool_id}/samples/{sample_id}"


def model_name(pool_id: str, model_id: str) -> str:
    """Name of a model; "" where there is none."""
    return f"pools/{pool_id}/models/{model_id}" if model_id else ""


def source_name(pool_id: str, source: str) -> str:
    """Name of a prediction source; "" where there is none."""
    return f"pools/{pool_id}/predictionSources/{source}" if source else ""


def lease_name(pool_id: str, lease_id: str) -> str:
    """Name of a lease; "" where there is none."""
    return f"pools/{pool_id}/leases/{lease_id}" if lease_id else ""


def annotation_name(pool_id: str, event: int) -> str:
    """Name of an annotation by its event's number; "" for none, -1."""
    return f"pools/{pool_id}/annotations/{event}" if event >= 0 else ""


def operation_name(pool_id: str, operation_id: str) -> str:
    """Name of an operation."""
    return f"pools/{pool_id}/operations/{operation_id}"
