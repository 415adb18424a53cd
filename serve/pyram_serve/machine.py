"""How many workers and threads fit: by the processors, and by the memory that the control group allows.

The figures are those of a Django site on PyPy (docs/serving.md): the keeper and the parent together, and
what a worker has beside what it shares with the parent.
"""

import os

PARENT = 100 << 20
WORKER = 40 << 20
MOST_WORKERS = 8
# A worker that is alone answers others while one waits for the database.
THREADS_OF_ONE = 4


def _number(path):
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):  # "max", or no such controller.
        return None


def _groups(root):
    """The directories of this process's control groups and of all above: (version 2?, directory, controllers)."""
    try:
        with open(os.path.join(root, "proc/self/cgroup"), encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return
    for _, controllers, path in (line for line in lines if len(line) == 3):
        wanted = [name for name in controllers.split(",") if name in ("memory", "cpu")]
        for controller in wanted or ([""] if not controllers else []):
            top = os.path.join(root, "sys/fs/cgroup", controller)
            # In a container the path may be one of the machine's, and the group is mounted at the top.
            while True:
                yield not controllers, os.path.join(top, path.strip("/")), controller
                if path in ("", "/"):
                    break
                path = os.path.dirname(path)


def memory_limit(root="/"):
    """Bytes that this process and its children may have, by limits and by what the machine has."""
    limits = []
    for second, directory, controller in _groups(root):
        if controller == "cpu":
            continue
        for name in ("memory.max", "memory.high") if second else ("memory.limit_in_bytes",):
            limits.append(_number(os.path.join(directory, name)))
    try:
        with open(os.path.join(root, "proc/meminfo"), encoding="ascii") as file:
            limits.append(next(int(line.split()[1]) << 10 for line in file if line.startswith("MemTotal:")))
    except (OSError, StopIteration):
        pass
    return min((limit for limit in limits if limit), default=1 << 30)


def _quota(directory, second):
    """Processors that a control group's quota is, or None."""
    if second:
        try:
            with open(os.path.join(directory, "cpu.max"), encoding="ascii") as file:
                quota, period = file.read().split()
        except (OSError, ValueError):
            return None
        return None if quota == "max" else int(quota) / int(period)
    quota = _number(os.path.join(directory, "cpu.cfs_quota_us"))
    period = _number(os.path.join(directory, "cpu.cfs_period_us"))
    return quota / period if quota and period and quota > 0 else None


def _allowed(root):
    """Processors that this process may run on. PyPy has no os.sched_getaffinity."""
    try:
        with open(os.path.join(root, "proc/self/status"), encoding="utf-8", errors="replace") as file:
            ranges = next(line.split()[1] for line in file if line.startswith("Cpus_allowed_list:"))
        ends = [part.partition("-")[::2] for part in ranges.split(",")]
        return sum(int(last or first) - int(first) + 1 for first, last in ends)
    except (OSError, StopIteration, ValueError, IndexError):
        return os.cpu_count() or 1


def processors(root="/"):
    """Whole processors that this process may use; at least one."""
    counts = [float(_allowed(root))]
    for second, directory, controller in _groups(root):
        if controller != "memory":
            counts.append(_quota(directory, second) or counts[0])
    return max(1, round(min(counts)))


def workers_and_threads(memory=None, cores=None):
    """What fits: a worker for each processor, as far as the memory goes."""
    memory = memory or memory_limit()
    cores = cores or processors()
    fit = (int(memory * 0.9) - PARENT) // WORKER
    workers = max(1, min(fit, cores, MOST_WORKERS))
    return workers, THREADS_OF_ONE if workers == 1 else 1
