"""The parent's side of one worker: it starts the process, sends and reads lines, and kills it.

In: a request. Out: messages as dicts, and the ring with the pictures. The worker gets no secret of the environment, and
inherits no descriptor but its own. Knows nothing about deadlines or queues.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.media.ring import Ring, create_memory

INHERITED = (
    *("PATH", "HOME", "TMPDIR", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ"),
    *("PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
)
"""The variables of the environment that a worker gets."""
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""What a worker gets too where it reads an address."""
READ_BYTES = 1 << 16
END_SECONDS = 5.0  # until a killed process has ended


class WorkerProcess:
    """A running worker. The thread that creates it must live as long as the worker: on Linux the worker ends with it.

    request: what the worker reads first, plain values. variables: further names of the environment that it may see.
    has_input: it reads the standard input of this process. Raises OSError where it cannot be started.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        *,
        num_slots: int,
        size: int,
        variables: tuple[str, ...] = (),
        has_input: bool = False,
    ) -> None:
        with contextlib.ExitStack() as child_ends, contextlib.ExitStack() as own_ends:
            memory = create_memory(num_slots, size)
            child_ends.callback(os.close, memory)
            self.ring = Ring(memory, num_slots, size)
            control, self._control = os.pipe()
            child_ends.callback(os.close, control)
            own_ends.callback(os.close, self._control)
            self.replies, reply = os.pipe()
            child_ends.callback(os.close, reply)
            own_ends.callback(os.close, self.replies)
            os.set_blocking(self.replies, False)
            numbers = [str(number) for number in (memory, control, reply, os.getpid())]
            self.process = subprocess.Popen(
                # -P: a file av.py in the current folder of the user must not be imported
                [sys.executable, "-P", "-m", "pipeline.media.worker", *numbers],
                stdin=None if has_input else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=worker_environment(variables),
                pass_fds=(memory, control, reply),
                start_new_session=True,
            )
            self._own_ends = own_ends.pop_all()
        self._text = b""
        self.send({**request, "num_slots": num_slots, "size": size})

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one line. A worker that has ended does not get it; `read` tells."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, json.dumps(message).encode() + b"\n")

    def read(self) -> list[dict[str, Any]] | None:
        """The messages that have arrived; does not wait. None: the worker has ended and nothing more will arrive."""
        try:
            data = os.read(self.replies, READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            return None
        *lines, self._text = (self._text + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def kill(self) -> None:
        """End the process at once. Messages that it has sent can still be read."""
        self.process.kill()

    def wait(self) -> str:
        """Wait for the end of a process that has ended or was killed: the name of its signal, or exit_<code>.

        A killed process that waits for a dead disk ends later; then this does not wait.
        """
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        return signal.Signals(-code).name if code < 0 else f"exit_{code}"

    def close(self) -> None:
        """Kill the process and close the descriptors. The memory goes with the last view of it."""
        self.kill()
        self.wait()
        self._own_ends.close()


def worker_environment(variables: tuple[str, ...] = ()) -> dict[str, str]:
    """What a worker may see of the environment: nothing that could be a secret. variables: further names."""
    package = str(Path(__file__).resolve().parents[2])
    kept = {name: os.environ[name] for name in (*INHERITED, *variables) if name in os.environ}
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def import_problem() -> str:
    """What Python says where the worker's module cannot be imported; "" where it can. For the message of an error."""
    command = [sys.executable, "-P", "-c", "import pipeline.media.worker"]
    result = subprocess.run(command, env=worker_environment(), capture_output=True, text=True, timeout=120)
    return result.stderr.strip().rpartition("\n")[2] if result.returncode else ""
