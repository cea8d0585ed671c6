"""What a process asks of its own libraries before it computes, and of its processor."""

import contextlib
import ctypes
import os

import torch

CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")  # oneDNN's, and torch's before it
SHAPES = "256"  # more than a pass has; of 1,024 kept by default each takes half a megabyte with AMX


def settle_memory() -> None:
    """What every process asks that computes for long."""
    keep_freed_memory()
    keep_few_shapes()


def keep_freed_memory() -> None:
    """Let glibc keep freed tensors for the next ones: a tenth more training speed on a CPU, measured.

    By default each large tensor is mapped and unmapped anew, and the kernel clears its pages every time.
    """
    trim, mmap, ceiling = -1, -3, 32 << 20
    with contextlib.suppress(OSError, AttributeError):  # another libc has no mallopt, or no such library
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        if not mallopt(mmap, 1 << 30):
            mallopt(mmap, ceiling)
        mallopt(trim, (1 << 31) - 1)


def keep_few_shapes() -> None:
    """Let oneDNN forget what it compiled for shapes of long ago: rows of every length are another product.

    What the environment says already stands; it is read at the first such product of a process.
    """
    for name in CACHES:
        os.environ.setdefault(name, SHAPES)


def release_memory() -> None:
    """Give the freed pages of the whole heap back to the system, those between living objects too.

    What a stage leaves behind is of no use to the next.  Pages come back as they are touched.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def fast_bf16(device: torch.device) -> bool:
    """False for a processor that multiplies bf16 in software, some sixty times slower than float32."""
    if device.type != "cpu":
        return True
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # not in builds without oneDNN
    return supported is not None and supported()
