"""How a call's builder becomes a method: same name, parameters and documentation, other result."""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, TypeVar

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


def like(build: Callable[..., Any], returns: Callable[[Any], Any]) -> Callable[[MethodT], MethodT]:
    """Give a method the name, parameters and documentation of the function that builds its call.

    `returns` turns the type of the builder's result (the T of `Unary[T]`) into that of the method.
    """

    def dress(method: MethodT) -> MethodT:
        functools.update_wrapper(method, build)
        # Left in place it would make `inspect` drop the first parameter as self.
        del method.__wrapped__  # type: ignore[attr-defined]
        signature = inspect.signature(build)
        me = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        result = returns(typing.get_args(signature.return_annotation)[0])
        method.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[me, *signature.parameters.values()], return_annotation=result
        )
        return method

    return dress


def same_type(result: Any) -> Any:
    """The method returns what the call's reply is parsed to."""
    return result
