"""How many CPU threads training takes: all of them on a quiet machine, one while other programs work."""

import psutil
import torch


class ThreadPace:
    """`follow()` now and then sets torch's thread count from what other programs took of the CPU since the last call.

    Threads of one operation wait for each other, so on a busy machine several are slower than one, not only unkind.
    """

    def __init__(self, *, threads: int, quiet_cores: float = 0.45) -> None:
        self.threads = threads
        self.quiet_cores = quiet_cores
        self.ours = psutil.Process()
        self.ours.cpu_percent()
        psutil.cpu_percent()

    def follow(self) -> None:
        """Take all threads if other programs used less than `quiet_cores` cores, otherwise one."""
        total = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
        others = total - self.ours.cpu_percent() / 100
        torch.set_num_threads(self.threads if others < self.quiet_cores else 1)
