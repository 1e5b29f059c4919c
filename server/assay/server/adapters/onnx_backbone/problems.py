"""The error of a file that cannot serve, and ONNX Runtime's own words made fit to show."""

from assay.server.core.errors import AssayError, Reason

_LONGEST = 1000  # characters of a message: a file may hold names of any length, and an error travels in a header


def invalid(problem: str, message: str, **metadata: str) -> AssayError:
    """MODEL_INVALID; `problem` is the machine-readable kind of trouble."""
    facts = {key: shorten(value) for key, value in metadata.items()}
    return AssayError(Reason.MODEL_INVALID, shorten(message), problem=problem, **facts)


def shorten(text: str) -> str:
    """A text, its middle left out if it is too long."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"


def first_line(error: Exception, path: str = "") -> str:
    """What ONNX Runtime says, without its prefix, the path on the server's disk and all but the first line."""
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0].removeprefix("[ONNXRuntimeError] : ")
    if path:
        line = line.replace(path, "the file")
    return line[:300]
