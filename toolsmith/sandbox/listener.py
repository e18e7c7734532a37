"""The calls that the kernel passes on to the host: new processes, and sockets by grant.

The kernel holds a call of code inside until the host has answered it, so code cannot start processes faster
than the host counts them, for every user and however busy the machine is. Once code has asked for one process
too many, no such call is answered any more: its caller sleeps until the step is ended.

Code inside never has a socket of the network. The host puts one end of a connected pair into the calling
process, and the proxy serves the other. `connect` does nothing and reports success, so code talks to the
proxy whatever address it connects to. This works the same with and without a network namespace, for all
programs.

Not covered: the kernel allows only one filter with a listener. If one is installed already, processes are
only polled, and the sandbox refuses to start with a grant, and says so.
"""

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import threading

from toolsmith.sandbox.processes import SandboxProcesses
from toolsmith.sandbox.proxy import Proxy
from toolsmith.sandbox.seccomp import process_calls

MAX_CONNECTIONS = 32
_RECEIVE, _ANSWER, _ADD_FD = 0xC0502100, 0xC0182101, 0x40182103  # SECCOMP_IOCTL_NOTIF_*
_AND_ANSWER = 2  # SECCOMP_ADDFD_FLAG_SEND
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_NOTICE = "=QIIiIQ6Q"  # struct seccomp_notif: call, process, flags, number, machine, where, arguments
_NEW_THREAD = 0x00010000  # CLONE_THREAD
_CLOSED_CHECK_S = 0.5
_HANDOVER_S = 5.0


class CallBroker:
    """Answers the calls that arrive at `listener`, a descriptor it owns, until the sandbox ends."""

    def __init__(self, listener: int, processes: SandboxProcesses, proxy: Proxy | None) -> None:
        self._listener, self._processes, self._proxy = listener, processes, proxy
        self._starts = process_calls()
        self._closed = threading.Event()
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._thread = threading.Thread(target=self._run, name="sandbox-calls", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends all connections and stops answering."""
        self._closed.set()
        if self._proxy is not None:
            self._proxy.close()
        self._thread.join()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        try:
            while not self._closed.is_set():
                ready = poll.poll(_CLOSED_CHECK_S * 1000)
                if ready and not ready[0][1] & select.POLLIN:
                    return  # no process is left that could call
                if ready:
                    self._answer()
        finally:
            os.close(self._listener)

    def _answer(self) -> None:
        notice = bytearray(struct.calcsize(_NOTICE))
        try:
            fcntl.ioctl(self._listener, _RECEIVE, notice)
        except OSError:
            return  # the caller has ended
        call, _, _, number, _, _, first, second, *_ = struct.unpack(_NOTICE, notice)
        if number not in self._starts:
            self._give_socket(call, second)
            return
        # fork and vfork have no arguments: the registers may hold anything.
        thread = number == self._starts[0] and bool(first & _NEW_THREAD)
        if self._processes.admit(thread=thread):
            self._reply(call, flags=_CONTINUE)

    def _give_socket(self, call: int, kind: int) -> None:
        if self._proxy is None:
            self._reply(call, error=errno.EPERM)
            return
        if not self._slots.acquire(blocking=False):
            self._reply(call, error=errno.EMFILE)
            return
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.bind("")  # any name: clients take the second part of an address, so there has to be one
            theirs.setblocking(not kind & socket.SOCK_NONBLOCK)
            handed = self._hand_over(call, theirs, os.O_CLOEXEC if kind & socket.SOCK_CLOEXEC else 0)
        if handed:
            threading.Thread(
                target=self._serve, args=(self._proxy, ours), name="sandbox-proxy", daemon=True
            ).start()
        else:
            ours.close()
            self._slots.release()

    def _hand_over(self, call: int, theirs: socket.socket, flags: int) -> bool:
        """Whether the caller got the socket; it may have ended, or have too many files open."""
        request = struct.pack("=QIIII", call, _AND_ANSWER, theirs.fileno(), 0, flags)
        try:
            fcntl.ioctl(self._listener, _ADD_FD, request)
        except OSError as exc:
            self._reply(call, error=exc.errno or errno.EPERM)
            return False
        return True

    def _reply(self, call: int, *, error: int = 0, flags: int = 0) -> None:
        with contextlib.suppress(OSError):  # the caller has ended
            fcntl.ioctl(self._listener, _ANSWER, bytearray(struct.pack("=QqiI", call, 0, -error, flags)))

    def _serve(self, proxy: Proxy, ours: socket.socket) -> None:
        try:
            proxy.serve(ours)
        finally:
            self._slots.release()


def receive_listener(control: socket.socket) -> int:
    """The descriptor that the worker sends as it starts. Raises OSError if it sends none."""
    control.settimeout(_HANDOVER_S)
    _, fds, _, _ = socket.recv_fds(control, 1, 1)
    if len(fds) != 1:
        raise OSError("it did not send the listener for its sockets")
    return fds[0]
