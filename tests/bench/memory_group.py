"""A memory control group of a measurement's own, version 1 or 2, removed when it ends. Needs root."""

import os
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def own_group():
    """The folder of the group that this process is in, and the name of a group's limit there."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return ROOT / "memory" / path.lstrip("/"), "memory.limit_in_bytes"
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::") and "memory" in (ROOT / "cgroup.controllers").read_text():
            # Groups with processes have no controllers for their children, but the root has.
            (ROOT / "cgroup.subtree_control").write_text("+memory")
            return ROOT, "memory.max"
    raise SystemExit("no memory control group can be made here")


class MemoryGroup:
    def __init__(self, limit_bytes):
        parent, limit = own_group()
        self.folder = parent / f"sluice-bench-{os.getpid()}"
        self.folder.mkdir()
        (self.folder / limit).write_text(str(limit_bytes))
        swap = self.folder / "memory.swap.max"
        if swap.exists():
            swap.write_text("0")

    def enter(self):
        """For preexec_fn: the process that calls it is in the group from then on."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def peak_bytes(self):
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            if (self.folder / name).exists():
                return int((self.folder / name).read_text())
        return 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in range(50):
            try:
                return self.folder.rmdir()
            except OSError:  # the last process is still going
                time.sleep(0.1)
        raise SystemExit(f"{self.folder} cannot be removed")
