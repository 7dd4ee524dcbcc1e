"""A real ipykernel, driven as a front end drives it.

Every wait has a bound, and one that fails says what it waited for and what it has received so far. One thread
owns the sockets and always reads them, so each message has the time at which it arrived. Outputs are combined
as in a front end. It knows nothing of halo_notebook.
"""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file
from jupyter_client.session import Session

Json = dict[str, Any]
Socket = zmq.Socket[bytes]
Status = Literal["ok", "error", "aborted"]
START_TIMEOUT_S = 60


class WaitedTooLong(AssertionError):
    """Something did not happen in time. The message says what, and what did happen."""


@dataclass(frozen=True)
class Message:
    """One IOPub message and when it came."""

    msg_type: str
    content: Json
    at: float
    """`time.monotonic()` on arrival."""


@dataclass(frozen=True)
class CellResult:
    """A finished cell: `outputs` as in nbformat, with updates applied, and all IOPub `messages` of the cell.

    `status` is 'aborted' if an earlier cell failed and this one did not run.
    """

    status: Status
    ename: str
    evalue: str
    traceback: list[str]
    outputs: list[Json]
    messages: list[Message]

    @property
    def stdout(self) -> str:
        """All that the cell printed."""
        return self._stream("stdout")

    @property
    def stderr(self) -> str:
        """All that the cell wrote on stderr."""
        return self._stream("stderr")

    def _stream(self, name: str) -> str:
        return "".join(output["text"] for output in self.outputs if output.get("name") == name)

    @property
    def displays(self) -> list[Json]:
        """The outputs that are displays or results: each one's data by MIME type."""
        kinds = {"display_data", "execute_result"}
        return [output["data"] for output in self.outputs if output["output_type"] in kinds]


@dataclass
class Running:
    """A cell, or another request, that may still run. `Kernel` fills the lists under its lock."""

    kernel: Kernel
    what: str
    wants_reply: bool = True
    outputs: list[Json] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    """The prompts of the cell's calls of `input`; `Kernel.type_in` answers the last."""
    reply: Json | None = None
    idle: bool = False
    clear_pending: bool = False

    @property
    def done(self) -> bool:
        """Whether the reply has arrived and the kernel has reported that it is idle."""
        return self.idle and (self.reply is not None or not self.wants_reply)

    @property
    def text(self) -> str:
        """The plain text received so far: streams, and the text/plain of displays."""
        with self.kernel.changed:
            return "\n".join(
                output["text"] if output["output_type"] == "stream" else output["data"].get("text/plain", "")
                for output in self.outputs
                if output["output_type"] != "error"
            )

    def wait_for(self, condition: Callable[[Running], bool], what: str, timeout: float = 30) -> None:
        """As `Kernel.wait_until`, for a condition of this cell."""
        self.kernel.wait_until(lambda: condition(self), f"{what} (in {self.what})", timeout)

    def wait_for_text(self, text: str, timeout: float = 30) -> None:
        """Wait until the cell's plain text contains `text`."""
        self.wait_for(lambda cell: text in cell.text, f"the text {text!r}", timeout)

    def until_asked(self, number: int, timeout: float = 30) -> str:
        """Wait for the cell's `number`-th `input`, from 1; return its prompt, "" if the cell ends first."""
        self.wait_for(
            lambda cell: cell.done or len(cell.prompts) >= number, f"input number {number}", timeout
        )
        return self.prompts[number - 1] if len(self.prompts) >= number else ""

    def result(self, timeout: float = 30) -> CellResult:
        """Wait for the end of the cell."""
        self.wait_for(lambda cell: cell.done, "the end of the cell", timeout)
        reply = self.reply or {"status": "ok"}
        with self.kernel.changed:
            return CellResult(
                status=reply["status"],
                ename=reply.get("ename", ""),
                evalue=reply.get("evalue", ""),
                traceback=list(reply.get("traceback", ())),
                outputs=copy.deepcopy(self.outputs),
                messages=list(self.messages),
            )


class Kernel:
    """A running ipykernel on the interpreter that runs the tests.

    It has the variables of `env` and those of the tests, except those that begin with HALO_.
    """

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self.changed = threading.Condition()
        self.messages: list[Message] = []
        """All IOPub messages so far, also those of a background thread."""
        self._folder = tempfile.TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True)
        home = Path(self._folder.name)
        self._cwd = home / "cwd"
        self._cwd.mkdir()
        self._log_path = home / "log"
        self._connection_file = home / "connection.json"
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HALO_")},
            "IPYTHONDIR": str(home / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(home),
            # ipykernel loads the debugger at its start, which warns about frozen modules.
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            # A kernel ends itself when this process does.
            "JPY_PARENT_PID": str(os.getpid()),
            **(env or {}),
        }
        self._running: dict[str, Running] = {}
        self._displays: dict[str, list[Json]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def run(self, code: str, timeout: float = 30, *, console: bool = False) -> CellResult:
        """Run one cell and wait for its end."""
        return self.start(code, console=console).result(timeout)

    def start(self, code: str, *, stdin: bool = False, console: bool = False) -> Running:
        """Send a cell and return at once, as JupyterLab does or as a `console` does, such as qtconsole.

        With `stdin` it may ask for input, which `type_in` answers.
        """
        first_line = code.strip().split("\n", 1)[0][:60]
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": stdin or console,
            "stop_on_error": True,
        }
        return self.send("execute_request", content, what=f"the cell {first_line!r}", console=console)

    def run_all(self, cells: Sequence[str], timeout: float = 60) -> list[CellResult]:
        """Send all cells at once, as Run All does, and wait until all have ended."""
        deadline = time.monotonic() + timeout
        started = [self.start(code) for code in cells]
        return [cell.result(max(0.0, deadline - time.monotonic())) for cell in started]

    def send(
        self,
        msg_type: str,
        content: Json,
        *,
        what: str = "",
        wants_reply: bool = True,
        console: bool = False,
        cell_id: str = "a1b2c3d4",
    ) -> Running:
        """Send any message on the shell channel, such as a widget's `comm_msg`, which gets no reply."""
        with self.changed:
            message = self._session.msg(msg_type, content, metadata=None if console else {"cellId": cell_id})
            if not console:  # a browser's library makes its own ids
                message["header"]["msg_id"] = message["msg_id"] = str(uuid.uuid4())
            running = Running(self, what or f"the {msg_type}", wants_reply)
            self._running[message["header"]["msg_id"]] = running
            self._outbox.send_multipart([b"shell", *self._session.serialize(message)])
        return running

    def type_in(self, text: str) -> None:
        """Answer the input that the kernel waits for."""
        with self.changed:
            message = self._session.msg("input_reply", {"value": text})
            self._outbox.send_multipart([b"stdin", *self._session.serialize(message)])

    def interrupt(self) -> None:
        """Interrupt the running cell, as the front ends' stop button does."""
        assert self._process is not None, "the kernel has been stopped"
        os.killpg(self._process.pid, signal.SIGINT)

    def restart(self) -> None:
        """End the kernel and start a new one with the same settings."""
        self._end()
        self._start()

    def stop(self) -> None:
        """End the kernel and everything that was opened for it. May be called twice."""
        self._end()
        self._folder.cleanup()

    @property
    def alive(self) -> bool:
        """Whether the kernel's process is running."""
        return self._process is not None and self._process.poll() is None

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float = 30) -> None:
        """Wait until a condition holds, which is checked at each message from the kernel."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while not condition():
                left = deadline - time.monotonic()
                if not self.alive:
                    raise WaitedTooLong(f"The kernel ended while waiting for {what}.\n{self._state()}")
                if left <= 0:
                    raise WaitedTooLong(f"Waited {timeout:g} s for {what}.\n{self._state()}")
                # The process may end without a message, so check it twice a second.
                self.changed.wait(min(left, 0.5))

    def _state(self) -> str:
        lines = [f"  kernel: {'running' if self.alive else 'ended'}"]
        for running in self._running.values():
            if not running.done:
                lines.append(f"  {running.what}: reply {running.reply}, idle {running.idle}")
                lines += [f"    {each.msg_type} {str(each.content)[:200]}" for each in running.messages[-5:]]
        return "\n".join([*lines, "  log: " + self._log_path.read_text(errors="replace")[-2000:]])

    def _start(self) -> None:
        try:
            self._launch()
        except WaitedTooLong:
            # Another process may take a port after it was chosen and before the kernel binds it.
            if "Address already in use" not in self._log_path.read_text(errors="replace"):
                raise
            self._end()
            self._launch()

    def _launch(self) -> None:
        self._running.clear()
        self._displays.clear()
        self._connection_file.unlink(missing_ok=True)
        write_connection_file(str(self._connection_file), key=os.urandom(16).hex().encode())
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ipykernel_launcher", "-f", str(self._connection_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd=self._cwd,
                # Its own process group: Ctrl-C in the terminal is meant for the tests.
                start_new_session=True,
            )
        self._context = zmq.Context()
        client = BlockingKernelClient(connection_file=str(self._connection_file), context=self._context)
        client.load_connection_file()
        self._session = client.session
        inbox = self._context.socket(zmq.PULL)
        inbox.bind("inproc://outbox")
        self._outbox = self._context.socket(zmq.PUSH)
        self._outbox.connect("inproc://outbox")
        # The kernel asks for input under the name of the socket that sent the cell, and drops a request for
        # input while this socket is not connected. Once the handshake is over, an answer to a later question
        # shows that the kernel has seen its end, too.
        stdin = self._context.socket(zmq.DEALER)
        stdin.setsockopt(zmq.IDENTITY, self._session.bsession)
        monitor = stdin.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        stdin.connect(f"tcp://{client.ip}:{client.stdin_port}")
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (connected := monitor.poll(500)) and self.alive and time.monotonic() < deadline:
            pass  # the process may end without a message, so look at it twice a second
        stdin.disable_monitor()
        monitor.close()
        sockets: dict[str, Socket] = {
            "shell": client.connect_shell(identity=self._session.bsession),
            "stdin": stdin,
            "control": client.connect_control(),
            "iopub": client.connect_iopub(),
        }
        self._reader = threading.Thread(target=self._carry, args=(inbox, sockets), daemon=True)
        self._reader.start()
        if not connected:
            raise WaitedTooLong(f"The kernel's stdin channel did not connect.\n{self._state()}")
        self._wait_for_first_answer(deadline)

    def _wait_for_first_answer(self, deadline: float) -> None:
        # The kernel drops IOPub messages that it sends before it has received the subscription. So ask again
        # until an answer has come on both channels.
        while True:
            question = self.send("kernel_info_request", {}, what="the kernel's first answer")
            try:
                question.result(timeout=1)
            except WaitedTooLong:
                if time.monotonic() > deadline or not self.alive:
                    raise
            else:
                return

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        reader, self._reader = self._reader, None
        if reader is not None and process.poll() is None:
            # First an interrupt and a request, so that what a kernel runs at its end does run.
            if any(not running.done for running in self._running.values()):
                os.killpg(process.pid, signal.SIGINT)
            message = self._session.msg("shutdown_request", {"restart": False})
            self._outbox.send_multipart([b"control", *self._session.serialize(message)])
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        if reader is not None:
            self._outbox.send_multipart([b"close"])
            reader.join(10)
            self._outbox.close(linger=0)
            self._context.term()

    def _carry(self, inbox: Socket, sockets: dict[str, Socket]) -> None:
        # A session remembers the digests it has seen, and two threads must not share one.
        session = Session(key=self._session.key, signature_scheme=self._session.signature_scheme)
        poller = zmq.Poller()
        names = {socket: name for name, socket in sockets.items()}
        for socket in (inbox, *names):
            poller.register(socket, zmq.POLLIN)
        closing = False
        while not closing:
            for socket, _ in poller.poll():
                if socket is inbox:
                    channel, *frames = inbox.recv_multipart()
                    if channel == b"close":
                        closing = True
                    else:
                        sockets[channel.decode()].send_multipart(frames)
                    continue
                at = time.monotonic()
                _, message = session.recv(socket)
                if message is not None:
                    with self.changed:
                        self._take(names[socket], message, at)
                        self.changed.notify_all()
        for socket in (inbox, *names):
            socket.close(linger=0)

    def _take(self, channel: str, message: Json, at: float) -> None:
        kind, content = message["msg_type"], message["content"]
        running = self._running.get(message["parent_header"].get("msg_id", ""))
        if channel == "iopub":
            self.messages.append(Message(kind, content, at))
            if kind == "update_display_data":
                self._update_display(content)
        if running is None:
            return
        if channel == "shell":
            running.reply = content
        elif channel == "stdin" and kind == "input_request":
            running.prompts.append(content["prompt"])
        elif channel == "iopub":
            running.messages.append(self.messages[-1])
            self._fold(running, kind, content)

    def _fold(self, running: Running, kind: str, content: Json) -> None:
        match kind:
            case "status":
                running.idle = content["execution_state"] == "idle"
            case "clear_output":
                running.clear_pending = True
                if not content.get("wait"):
                    running.outputs.clear()
            case "stream" | "display_data" | "execute_result" | "error":
                if running.clear_pending:
                    running.clear_pending = False
                    running.outputs.clear()
                self._add_output(running, kind, content)

    def _add_output(self, running: Running, kind: str, content: Json) -> None:
        last = running.outputs[-1] if running.outputs else None
        if kind == "stream" and last and last["output_type"] == "stream" and last["name"] == content["name"]:
            last["text"] += content["text"]
            return
        output = {"output_type": kind, **content}
        transient = output.pop("transient", None) or {}
        running.outputs.append(output)
        if display_id := transient.get("display_id"):
            self._displays.setdefault(display_id, []).append(output)

    def _update_display(self, content: Json) -> None:
        display_id = content.get("transient", {}).get("display_id", "")
        for output in self._displays.get(display_id, ()):
            output["data"] = content["data"]
            output["metadata"] = content["metadata"]
