"""A command on one host in several processes, through torch.distributed.run."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

MAX_RESTARTS = 3


def run(
    count: int, script: str, arguments: Sequence[str], max_restarts: int = MAX_RESTARTS
) -> tuple[int, str | None]:
    """Runs a Python script with some arguments in `count` processes and waits for their end.

    A process that dies takes the others with it; then all start again, up to `max_restarts` times,
    a training from its newest checkpoint. SIGTERM and SIGINT are passed on. Returns the exit status
    and the name of the signal that came, if one did.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={count}", f"--max-restarts={max_restarts}"]
    command += [script, *arguments]
    # Ctrl-C reaches a whole process group: in one of their own the processes get it from here only.
    # By itself it kills after half a minute whoever still writes a checkpoint.
    environment = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "300", **os.environ}
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    received: list[str] = []

    def pass_on(number: int, frame: object) -> None:
        received.append(signal.Signals(number).name)
        process.send_signal(signal.SIGTERM)

    before = {n: signal.signal(n, pass_on) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status, received[0] if received else None
