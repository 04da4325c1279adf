"""What of a file lies in the page cache."""

import os

READ_BYTES = 16 << 20


def read_once(path):
    """All of it, in large pages where the file system has them."""
    with open(path, "rb", buffering=0) as file:
        while file.read(READ_BYTES):
            pass


def forget(path):
    """Nothing of it."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
