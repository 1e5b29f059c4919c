"""A client of another language, generated from the protos, works a round on a running server (make languages).

Needs node, and npm's registry for what package.json pins.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from assay.client.testing import start_server
from tools.generate_protos import GENERATOR_ENV, GOOGLE_PROTOS, PROTO_ROOT, ensure_generator, stage_google_protos

pytestmark = pytest.mark.languages
SOURCE = Path(__file__).parent / "typescript"
PROTOS = (
    *sorted(f"assay/v1/{path.name}" for path in (PROTO_ROOT / "assay/v1").glob("*.proto")),
    "google/longrunning/operations.proto",
)
OPTIONS = "outputServices=grpc-js,esModuleInterop=true,forceLong=bigint,oneof=unions-value"


def run(*command, cwd):
    """The standard output of a command that succeeds."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """The folder of the compiled client."""
    folder = tmp_path_factory.mktemp("typescript") / "client"
    shutil.copytree(SOURCE, folder)
    run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)
    ensure_generator()
    stage_google_protos()
    (folder / "generated").mkdir()
    run(
        str(GENERATOR_ENV / "bin/python"),
        *("-m", "grpc_tools.protoc"),
        "--plugin=protoc-gen-ts_proto=node_modules/.bin/protoc-gen-ts_proto",
        f"--proto_path={PROTO_ROOT}",
        f"--proto_path={GOOGLE_PROTOS}",
        "--ts_proto_out=generated",
        f"--ts_proto_opt={OPTIONS}",
        *PROTOS,
        cwd=folder,
    )
    run("node_modules/.bin/tsc", "-p", ".", cwd=folder)
    return folder


def test_a_typescript_client_works_a_round(story, tmp_path):
    with start_server(tmp_path) as server:
        told = json.loads(run("node", "out/story.js", server.target, cwd=story))
        with server.client() as client:
            pool = client.get_pool("typed")
            assert told["version"] == client.server_info().version
    assert (told["classes"], pool.class_names) == (["right", "left"], ("right", "left"))
    assert (told["added"], told["stored"], told["labels"]) == (60, 20, 20)
    assert (told["decided"], told["undone"]) == (1, True)
    assert told["history"] == [f"ANNOTATION_VERB_{verb}" for verb in ("ANNOTATE", "VERDICT", "RETRACT")]
    assert told["watched"] == ["lease"]
    assert all(name.startswith("pools/typed/samples/s/") for name in told["names"])
    assert told["operation"].startswith("pools/typed/operations/")
    assert (told["pool"], told["head"]) == ("pools/typed", pool.active_head)
    assert told["refused"] == [5, True]  # NOT_FOUND
    assert (pool.counts.total, pool.counts.labeled, pool.counts.leased) == (60, 20, 0)
