"""Compile kernels with numba, and run them as plain Python while there is little to do.

`njit` is numba's, but numba is imported only when a kernel is first compiled: importing and starting it takes half a
second, and compiling all kernels of a table some seconds more. Until then, calls with small arrays run the kernel's
Python code, which returns the same.
"""

import threading
from collections.abc import Callable, Iterator
from functools import cache, update_wrapper
from time import thread_time
from typing import Any

import numpy as np

from cohortlib.errors import warn

SMALL = 1 << 13
"""A call whose arrays have at most this many words of 8 bytes can run as plain Python; the larger half may have more:
hash tables, and buffers with room."""
PATIENCE = 0.4
"""Seconds that a process spends in plain Python before kernels are compiled: about what importing numba takes."""

_lock = threading.RLock()
_running = threading.local()


class Interpreter:
    """Decide which calls run as plain Python, as long as the process has patience."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience

    def takes(self, arguments: tuple[Any, ...]) -> bool:
        """Return whether a call is small enough."""
        if self.patience <= 0:
            return False
        sizes = sorted(_sizes(arguments))
        return not sizes or sizes[len(sizes) // 2] <= SMALL

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
        """Run the Python code of a kernel; the kernels that it calls run as Python, too."""
        _running.plain = True
        begin = thread_time()
        try:
            with np.errstate(all="ignore"):  # kernels wrap on purpose
                return _plain(function(*arguments))
        finally:
            _running.plain = False
            self.patience -= thread_time() - begin


INTERPRETER = Interpreter()
"""The interpreter of this process."""


class Kernel:
    """A kernel: a function of arrays and numbers that numba compiles when it is first called with large arrays.

    Attributes
    ----------
    py_func, targetoptions
        The Python function, and the options of numba: what numba needs to compile other kernels that call this one.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        if function.__name__.startswith("_"):  # other kernels call it, and Python does not
            options = options | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        self.py_func, self.targetoptions = function, options
        self._compiled: Any = None
        update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401
        """Run the kernel, compiled unless the call is small."""
        if getattr(_running, "plain", False):
            return self.py_func(*arguments)
        if self._compiled is None and INTERPRETER.takes(arguments):
            return INTERPRETER.run(self.py_func, arguments)
        return self.compiled(*arguments)

    @property
    def compiled(self) -> Any:  # noqa: ANN401
        """The function as numba compiles it."""
        with _lock:
            if self._compiled is None:
                import numba

                from cohortlib.engine.kernels import intrinsics

                intrinsics.register()
                try:
                    self._compiled = numba.njit(**self.targetoptions)(self.py_func)
                except RuntimeError as error:
                    if "no locator available" not in str(error):
                        raise
                    _warn_of_no_cache()
                    self._compiled = numba.njit(**self.targetoptions | {"cache": False})(self.py_func)
            return self._compiled

    @property
    def _numba_type_(self) -> Any:  # noqa: ANN401
        """The type of this global where another kernel is compiled."""
        return self.compiled._numba_type_


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:  # noqa: ANN401
    """Decorate a kernel, with the options of :func:`numba.njit`."""
    return lambda function: Kernel(function, options)


@cache
def _warn_of_no_cache() -> None:
    """Warn once that numba finds no folder for compiled kernels: neither beside the package nor in the home folder."""
    warn(
        "compiled code cannot be kept, because neither the package nor the home folder can be written: each process "
        "compiles again, which takes seconds. Set NUMBA_CACHE_DIR to a folder that can be written"
    )


def _sizes(arguments: tuple[Any, ...]) -> Iterator[int]:
    """Yield the sizes of all arrays that are not empty, in words."""
    for argument in arguments:
        if isinstance(argument, tuple):
            yield from _sizes(argument)
        elif isinstance(argument, np.ndarray) and argument.size:
            yield argument.nbytes >> 3


def _plain(result: Any) -> Any:  # noqa: ANN401
    """Return numbers as compiled code does: those of Python."""
    if isinstance(result, np.generic):
        return result.item()
    return tuple(map(_plain, result)) if type(result) is tuple else result
