"""The error of a file that cannot serve, and ONNX Runtime's own words made fit to show."""

import re

from assay.server.core.errors import AssayError, Reason

_LONGEST = 1000  # characters of a message: a file may hold names of any length, and an error travels in a header

# What ONNX Runtime writes before its reasons: its status, the path that it was given, and a place in its source.
_STATUS = re.compile(r"^(\[ONNXRuntimeError\] : )?(\d+ : [A-Z_]+ : )?(Load model from .{0,4096}? failed:)?", re.DOTALL)
_PLACE = re.compile(r"(?:/\S*/)?[\w.-]+\.(?:cc|cpp|h|hpp):\d+ ")
_NO_MEMORY = re.compile(
    r"is smaller than requested bytes|failed to allocate memory|cannot allocate memory|bad[ _]alloc|std::length_error",
    re.IGNORECASE,
)
_IR_VERSION = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_OPSET = re.compile(
    r"Opset (\d+) is under development.*official support for domain (\S+) is till opset (\d+)", re.DOTALL
)


def invalid(problem: str, message: str, **metadata: str) -> AssayError:
    """MODEL_INVALID; `problem` is the machine-readable kind of trouble."""
    facts = {key: shorten(value) for key, value in metadata.items()}
    return AssayError(Reason.MODEL_INVALID, shorten(message), problem=problem, **facts)


def shorten(text: str) -> str:
    """A text, its middle left out if it is too long."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"


def not_onnx(why: str) -> AssayError:
    """The error of a file that is something else."""
    return invalid("not_onnx", f"The file is no ONNX model: {why}. Upload the .onnx file itself.")


def no_memory(error: BaseException) -> bool:
    """Whether ONNX Runtime failed for want of memory."""
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)))


def too_much_memory(memory_bytes: int) -> AssayError:
    """The error of a file that takes more memory than one may."""
    return invalid(
        "too_much_memory",
        f"The model takes more memory than the {memory_bytes:,} bytes that this server grants one beside its weights. "
        "Export it for smaller inputs, or raise the server's model_memory_bytes.",
    )


def too_slow(seconds: float) -> AssayError:
    """The error of a file whose runs take longer than one may."""
    return invalid(
        "too_slow",
        f"The model takes longer than the {seconds:g} seconds that this server grants one run. Export a smaller one, "
        "or raise the server's run_seconds.",
    )


def not_loadable(error: BaseException, path: str) -> AssayError:
    """The error of a file that ONNX Runtime does not open."""
    text = str(error)
    if found := _IR_VERSION.search(text):
        version, highest = found.groups()
        return invalid(
            "ir_version",
            f"The model's IR version is {version}; the highest that this server reads is {highest}. Export it with an "
            "older onnx package, or set ir_version before saving it.",
            version=version,
            highest=highest,
        )
    if found := _OPSET.search(text):
        version, domain, highest = found.groups()
        return invalid(
            "opset",
            f"The model uses opset {version} of {domain}; the highest that this server runs is {highest}. Export it "
            f"with opset {highest} or lower.",
            version=version,
            domain=domain,
            highest=highest,
        )
    return invalid("not_loadable", f"ONNX Runtime cannot open the model: {said(error, path)}.")


def said(error: BaseException, path: str = "") -> str:
    """What ONNX Runtime says, in one line: without its status, the path on the server's disk and places in its source,
    which come before the reason and can be longer than it."""
    text = str(error).strip() or type(error).__name__
    text = _STATUS.sub("", text.replace(path, "the file") if path else text)
    while (place := _PLACE.search(text)) is not None:
        text = text[: place.start()] + _without_function(text[place.end() :])
    return shorten(" ".join(text.split()).rstrip("."))


def _without_function(text: str) -> str:
    """A text without the name or the whole signature of a C++ function that it starts with."""
    first = text.split(" ", 1)[0]
    signature = "::" in text.split("(", 1)[0] and "(" in text
    return text[_end_of_signature(text) :].lstrip() if signature else text[len(first) :].lstrip()


def _end_of_signature(text: str) -> int:
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == ")" and depth == 0 and not text[position + 1 :].startswith(("::", "(")):
            rest = text[position + 1 :]
            return position + 1 + (len(" const") if rest.startswith(" const ") else 0)
    return 0
