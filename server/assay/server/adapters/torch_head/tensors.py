"""numpy arrays as torch tensors, without a copy; and how many threads torch computes with."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import numpy as np
import numpy.typing as npt
import torch


def as_tensor(array: npt.NDArray[np.float32]) -> torch.Tensor:
    """A tensor over the memory of an array, to be read only, and not kept longer than the array.

    torch has no read-only tensors and warns of arrays that are; a writable alias of mapped memory is fine as long as
    nobody writes.
    """
    if array.flags.writeable:
        return torch.from_numpy(array)
    if array.size == 0 or not array.flags.c_contiguous:
        return torch.from_numpy(array.copy())
    memory = (ctypes.c_float * array.size).from_address(array.ctypes.data)
    return torch.from_numpy(np.ctypeslib.as_array(memory).reshape(array.shape))


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch compute on the calling thread alone.

    Steps of milliseconds gain little from more threads, and lose a time slice at every barrier as soon as the cores are
    busy with requests (seen: 40 times slower). The count is the calling thread's own, but setting it also changes what
    new threads start with: a passing thread puts that back.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    restorer = Thread(target=torch.set_num_threads, args=(before,))
    restorer.start()
    restorer.join()
    try:
        yield
    finally:
        torch.set_num_threads(before)
