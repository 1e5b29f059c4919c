"""The protos keep to the rules of the AIPs, and say of each RPC who may call it."""

import pytest
from google.api import annotations_pb2, client_pb2, field_behavior_pb2, resource_pb2
from google.longrunning import operations_pb2
from google.protobuf.descriptor import FieldDescriptor

from assay.v1 import (
    annotations_pb2 as assay_annotations_pb2,
)
from assay.v1 import (
    audits_pb2,
    changes_pb2,
    labeling_pb2,
    mining_pb2,
    models_pb2,
    options_pb2,
    pools_pb2,
    predictions_pb2,
    server_pb2,
    tasks_pb2,
    types_pb2,
)

FILES = (
    assay_annotations_pb2,
    audits_pb2,
    changes_pb2,
    labeling_pb2,
    mining_pb2,
    models_pb2,
    pools_pb2,
    predictions_pb2,
    server_pb2,
    tasks_pb2,
    types_pb2,
)
METHODS = {
    method.name: method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
MESSAGES = {name: message for file in FILES for name, message in file.DESCRIPTOR.message_types_by_name.items()}
RESOURCES = {
    message.GetOptions().Extensions[resource_pb2.resource].type: name
    for name, message in MESSAGES.items()
    if message.GetOptions().HasExtension(resource_pb2.resource)
}


def behaviors(field):
    return set(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


@pytest.mark.parametrize("name", METHODS)
def test_an_rpc_says_who_may_call_it_and_where_http_finds_it(name):
    options = METHODS[name].GetOptions()
    access = options.Extensions[options_pb2.access]
    assert access.role != options_pb2.ROLE_UNSPECIFIED
    assert access.reach != options_pb2.POOL_REACH_UNSPECIFIED
    # A stream of requests has no HTTP of its own.
    assert options.HasExtension(annotations_pb2.http) is not METHODS[name].client_streaming
    if METHODS[name].output_type.full_name == "google.longrunning.Operation":
        told = options.Extensions[operations_pb2.operation_info]
        assert {told.response_type, told.metadata_type} <= MESSAGES.keys()


@pytest.mark.parametrize("name", METHODS)
def test_signatures_and_paths_name_fields_of_the_request(name):
    method = METHODS[name]
    fields = set(method.input_type.fields_by_name.keys())
    for signature in method.GetOptions().Extensions[client_pb2.method_signature]:
        assert set(filter(None, signature.split(","))) <= fields
    http = method.GetOptions().Extensions[annotations_pb2.http]
    path = getattr(http, http.WhichOneof("pattern") or "get")
    if "{" in path:
        assert path.partition("{")[2].partition("=")[0].partition(".")[0] in fields
    assert http.body in ("", "*", *fields)


@pytest.mark.parametrize("name", sorted(name for name in MESSAGES if name.endswith(("Request", "Header"))))
def test_each_field_of_a_request_says_whether_it_must_be_given(name):
    for field in MESSAGES[name].fields:
        if field.containing_oneof is None or field.containing_oneof.name.startswith("_"):
            assert behaviors(field) in ({field_behavior_pb2.REQUIRED}, {field_behavior_pb2.OPTIONAL}), field.full_name


def test_resources_have_names_and_what_names_them_says_so():
    kinds = ("Annotation", "Lease", "Model", "Pool", "PredictionSource", "Sample")
    assert set(RESOURCES) == {f"assay/{kind}" for kind in kinds}
    for message in RESOURCES.values():
        assert behaviors(MESSAGES[message].fields_by_name["name"]) == {field_behavior_pb2.IDENTIFIER}
    for name, message in MESSAGES.items():
        for field in message.fields:
            names = field.type == FieldDescriptor.TYPE_STRING and field.name in ("name", "parent", "pool")
            if names and name.endswith(("Request", "Header")):
                reference = field.GetOptions().Extensions[resource_pb2.resource_reference]
                assert (reference.type or reference.child_type) in RESOURCES, field.full_name


def test_a_resource_s_fields_are_set_by_whoever_they_say():
    given = {field.name for field in MESSAGES["Pool"].fields if behaviors(field) == {field_behavior_pb2.IMMUTABLE}}
    assert given == {"metric", "dimension", "discard_inputs"}
