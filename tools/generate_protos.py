"""Generate the Python code of proto/assay/v1, lint the protos, or check that the committed code is up to date.

Beside protoc's code that is the table of methods, which method_table.py makes of it.

The code is made with the oldest supported generator, because generated code runs on its own protobuf version and on
newer ones, never on older ones. That generator does not accept today's protobuf, so it has an environment of its own.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

# Raising GRPC_TOOLS raises the grpcio and protobuf floors in pyproject.toml.
GRPC_TOOLS = "1.76.0"
MYPY_PROTOBUF = "5.1.0"

ROOT = Path(__file__).resolve().parent.parent
PROTO_ROOT = ROOT / "proto"
PACKAGE = Path("assay/v1")
CACHE = ROOT / ".cache"
GENERATOR_ENV = CACHE / f"protoc-{GRPC_TOOLS}-{MYPY_PROTOBUF}"
# buf resolves imports only inside its workspace: buf.yaml names this folder as a second module.
GOOGLE_PROTOS = CACHE / "googleapis"
GENERATED_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
METHOD_TABLE = "methods.py"


def main() -> int:
    """Run the action that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("action", choices=("generate", "check", "lint"))
    action = parser.parse_args().action
    return {"generate": generate_in_place, "check": check, "lint": lint}[action]()


def generate_in_place() -> int:
    """Replace the committed code by freshly generated code."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        for stale in generated_names(PROTO_ROOT):
            (PROTO_ROOT / PACKAGE / stale).unlink()
        for name in generated_names(Path(scratch)):
            shutil.copyfile(Path(scratch) / PACKAGE / name, PROTO_ROOT / PACKAGE / name)
    (PROTO_ROOT / PACKAGE / METHOD_TABLE).write_text(method_table())
    return 0


def check() -> int:
    """Return 1 and name the files where the committed code is not what the protos generate."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        drifted = drift(Path(scratch))
    # Made of the code that is committed: where that has drifted, there is enough to say.
    if not drifted and (PROTO_ROOT / PACKAGE / METHOD_TABLE).read_text() != method_table():
        drifted = [METHOD_TABLE]
    for name in drifted:
        print(f"{PACKAGE / name}: not what the protos generate; run `make proto`", file=sys.stderr)
    return 1 if drifted else 0


def lint() -> int:
    """Lint our protos and their formatting with buf; return its exit status."""
    stage_google_protos()
    buf = str(Path(sys.prefix, "bin", "buf"))
    linted = subprocess.run([buf, "lint", "proto"], cwd=ROOT, check=False)
    formatted = subprocess.run([buf, "format", "--diff", "--exit-code", "proto"], cwd=ROOT, check=False)
    return linted.returncode or formatted.returncode


def generate(out: Path) -> None:
    """Write the code of every proto of the package below `out`."""
    ensure_generator()
    stage_google_protos()
    sources = sorted(str(path.relative_to(PROTO_ROOT)) for path in (PROTO_ROOT / PACKAGE).glob("*.proto"))
    if not sources:
        raise SystemExit(f"no .proto file in {PROTO_ROOT / PACKAGE}")
    binaries = GENERATOR_ENV / "bin"
    command = [
        str(binaries / "python"),
        *("-m", "grpc_tools.protoc"),
        f"--plugin=protoc-gen-mypy={binaries / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={binaries / 'protoc-gen-mypy_grpc'}",
        f"--proto_path={PROTO_ROOT}",
        f"--proto_path={GOOGLE_PROTOS}",
        *(f"--{kind}_out={out}" for kind in ("python", "grpc_python")),
        *(f"--{kind}_out=quiet:{out}" for kind in ("mypy", "mypy_grpc")),
        *sources,
    ]
    subprocess.run(command, check=True)
    for name in generated_names(out):
        path = out / PACKAGE / name
        path.write_text(path.read_text().rstrip("\n") + "\n")


def method_table() -> str:
    """The table of methods of the committed code, as ruff writes it."""
    table = [sys.executable, str(ROOT / "tools/method_table.py")]
    made = subprocess.run(table, check=True, capture_output=True, text=True).stdout
    ruff = [str(Path(sys.prefix, "bin", "ruff")), "format", "--stdin-filename", METHOD_TABLE, "-"]
    return subprocess.run(ruff, cwd=ROOT, check=True, input=made, capture_output=True, text=True).stdout


def drift(fresh: Path) -> list[str]:
    """Return the generated files that differ between `fresh` and the tree, are missing from it, or have no proto."""
    names = sorted({*generated_names(fresh), *generated_names(PROTO_ROOT)})
    _, differing, absent = filecmp.cmpfiles(fresh / PACKAGE, PROTO_ROOT / PACKAGE, names, shallow=False)
    return sorted(differing + absent)


def generated_names(root: Path) -> list[str]:
    """Return the names of the generated files of the package below `root`, sorted."""
    return sorted(path.name for path in (root / PACKAGE).glob("*_pb2*") if path.name.endswith(GENERATED_SUFFIXES))


def ensure_generator() -> None:
    """Make the generator's own environment unless it is there, whole."""
    stamp = GENERATOR_ENV / "complete"
    if stamp.exists():
        return
    uv = str(Path(sys.prefix, "bin", "uv"))
    environment = os.environ | {"VIRTUAL_ENV": str(GENERATOR_ENV)}
    environment.setdefault("UV_FIND_LINKS", os.environ.get("PIP_FIND_LINKS", ""))
    packages = [f"grpcio-tools=={GRPC_TOOLS}", f"mypy-protobuf=={MYPY_PROTOBUF}"]
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(GENERATOR_ENV)], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", *packages], env=environment, check=True)
    stamp.touch()


def stage_google_protos() -> None:
    """Copy the Google protos that ours may import to where protoc and buf look for them.

    The package ships operations.proto as operations_proto.proto, but its code registers the first name.
    """
    for package in ("api", "longrunning", "rpc"):
        target = GOOGLE_PROTOS / "google" / package
        target.mkdir(parents=True, exist_ok=True)
        for proto in (google_root() / package).glob("*.proto"):
            shutil.copyfile(proto, target / proto.name.replace("operations_proto.", "operations."))


def google_root() -> Path:
    """Return the folder that holds the protos of the installed googleapis-common-protos."""
    spec = find_spec("google.longrunning.operations_pb2")
    if spec is None or spec.origin is None:
        raise SystemExit("googleapis-common-protos is not installed: run `make setup`")
    return Path(spec.origin).parents[1]


if __name__ == "__main__":
    raise SystemExit(main())
