"""Model versions and the history of which was active."""

from functools import cache
from typing import Any

from sqlalchemy import Executable, Integer, Row, bindparam, delete, exists, insert, select

from assay.server.adapters.sql.codec import info_from_json, info_to_json
from assay.server.adapters.sql.dialects import Dialect
from assay.server.adapters.sql.schema import activations, models
from assay.server.adapters.sql.session import Session
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.models import NEWEST, ModelKind, ModelRecord

_MODELS = (
    select(models)
    .where(models.c.pool_uid == bindparam("of_pool"), models.c.number < bindparam("below"))
    .order_by(models.c.number.desc())
    .limit(bindparam("limit", type_=Integer))
)
_MODELS_OF_KIND = _MODELS.where(models.c.kind == bindparam("of_kind")).offset(bindparam("beyond", type_=Integer))
_MODEL_FILES = select(models.c.file).where(models.c.pool_uid == bindparam("of_pool"))
_MODEL = select(models).where(models.c.pool_uid == bindparam("of_pool"), models.c.model_id == bindparam("of_model"))
_DELETE_MODEL = delete(models).where(
    models.c.pool_uid == bindparam("of_pool"), models.c.model_id == bindparam("of_model")
)
_DELETE_ACTIVATIONS = delete(activations).where(
    activations.c.pool_uid == bindparam("of_pool"), activations.c.model_id == bindparam("of_model")
)
_ADD_ACTIVATION = insert(activations)
_ACTIVATIONS = (
    select(activations.c.model_id, activations.c.space)
    .where(activations.c.pool_uid == bindparam("pool_uid"), activations.c.kind == bindparam("kind"))
    .order_by(activations.c.number)
)
_later = activations.alias("later")
_BEYOND = (
    select(activations.c.number)
    .where(activations.c.pool_uid == bindparam("of_pool"), activations.c.kind == bindparam("of_kind"))
    .order_by(activations.c.number.desc())
    .offset(bindparam("beyond", type_=Integer))
    .limit(1)
    .scalar_subquery()
)
_OLD_ACTIVATIONS = (
    select(activations.c.number)
    .where(
        activations.c.pool_uid == bindparam("of_pool"),
        activations.c.kind == bindparam("of_kind"),
        activations.c.number <= _BEYOND,
        exists().where(
            _later.c.pool_uid == activations.c.pool_uid,
            _later.c.kind == activations.c.kind,
            _later.c.space == activations.c.space,
            _later.c.number > activations.c.number,
        ),
    )
    .order_by(activations.c.number)
    .limit(bindparam("limit", type_=Integer))
)
_FORGET_ACTIVATIONS = delete(activations).where(activations.c.number.in_(_OLD_ACTIVATIONS))


class ModelPart(Session):
    """The part of a transaction that keeps models."""

    def add_model(self, pool_uid: int, model: ModelRecord) -> None:
        """Stores a model version. Raises AssayError(MODEL_EXISTS)."""
        if self._run(_add_model(self._dialect), _model_values(pool_uid, model)).first() is None:
            raise AssayError(
                Reason.MODEL_EXISTS,
                f"The pool has a model {model.model_id!r} already. Choose another id.",
                model=model.model_id,
            )

    def models(
        self, pool_uid: int, *, kind: ModelKind | None = None, below: int = NEWEST, beyond: int = 0, limit: int = 1000
    ) -> list[ModelRecord]:
        """Model versions, newest first, of those below a number the ones beyond so many."""
        params: dict[str, object] = {"of_pool": pool_uid, "below": below, "limit": limit}
        if kind is None:
            assert not beyond
            return [_model_record(row) for row in self._run(_MODELS, params)]
        params |= {"of_kind": kind.value, "beyond": beyond}
        return [_model_record(row) for row in self._run(_MODELS_OF_KIND, params)]

    def model_files(self, pool_uid: int) -> list[str]:
        """Files of all model versions of a pool."""
        return [file for (file,) in self._tuples(_MODEL_FILES, {"of_pool": pool_uid})]

    def model(self, pool_uid: int, model_id: str) -> ModelRecord | None:
        """A model version."""
        row = self._run(_MODEL, {"of_pool": pool_uid, "of_model": model_id}).first()
        return None if row is None else _model_record(row)

    def delete_model(self, pool_uid: int, model_id: str) -> None:
        """Forgets a model version and its activations."""
        params = {"of_pool": pool_uid, "of_model": model_id}
        self._run(_DELETE_ACTIVATIONS, params)
        self._run(_DELETE_MODEL, params)

    def record_activation(self, pool_uid: int, kind: ModelKind, model_id: str, space: str, now: float) -> None:
        """Appends to the history of activations."""
        values = {"pool_uid": pool_uid, "kind": kind.value, "model_id": model_id, "space": space, "create_time": now}
        self._run(_ADD_ACTIVATION, values)

    def activations(self, pool_uid: int, kind: ModelKind) -> list[tuple[str, str]]:
        """(model_id, space) of all activations, oldest first."""
        rows = self._tuples(_ACTIVATIONS, {"pool_uid": pool_uid, "kind": kind.value})
        return [(model_id, space) for model_id, space in rows]

    def forget_activations(self, pool_uid: int, kind: ModelKind, keep: int, limit: int) -> int:
        """Drops the oldest activations beyond so many, but for the last one in each space."""
        params = {"of_pool": pool_uid, "of_kind": kind.value, "beyond": keep, "limit": limit}
        return self._run(_FORGET_ACTIVATIONS, params).rowcount


@cache
def _add_model(dialect: Dialect) -> Executable:
    unique = ["pool_uid", "model_id"]
    return dialect.insert(models).on_conflict_do_nothing(index_elements=unique).returning(models.c.number)


def _model_values(pool_uid: int, model: ModelRecord) -> dict[str, object]:
    return {
        "pool_uid": pool_uid,
        "model_id": model.model_id,
        "kind": model.kind.value,
        "display_name": model.display_name,
        "create_time": model.create_time,
        "file": model.file,
        "space": model.space,
        "info": info_to_json(model.info),
    }


def _model_record(row: Row[Any]) -> ModelRecord:
    kind = ModelKind(row.kind)
    return ModelRecord(
        model_id=row.model_id,
        kind=kind,
        display_name=row.display_name,
        create_time=row.create_time,
        file=row.file,
        space=row.space,
        number=row.number,
        info=info_from_json(kind, row.info),
    )
