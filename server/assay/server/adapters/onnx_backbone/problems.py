"""The error of a file that cannot serve, and ONNX Runtime's own words made fit to show."""

from assay.server.core.errors import AssayError, Reason


def invalid(problem: str, message: str, **metadata: object) -> AssayError:
    """MODEL_INVALID; `problem` is the machine-readable kind of trouble."""
    return AssayError(Reason.MODEL_INVALID, message, problem=problem, **metadata)


def first_line(error: Exception, path: str = "") -> str:
    """What ONNX Runtime says, without its prefix, the path on the server's disk and all but the first line."""
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0].removeprefix("[ONNXRuntimeError] : ")
    if path:
        line = line.replace(path, "the file")
    return line[:300]
