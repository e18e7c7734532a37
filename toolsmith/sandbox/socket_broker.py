"""Hands sockets to a sandbox: the host answers each `socket` call inside with one end of a connected pair.

Code inside never has a socket of the network. Its seccomp filter asks the host about each internet stream
socket (SECCOMP_RET_USER_NOTIF); the host puts one end of a connected pair into the calling process, and the
proxy serves the other. `connect` does nothing and reports success, so code talks to the proxy whatever
address it connects to. This works the same with and without a network namespace, for all programs.

Not covered: systems on which a filter with a listener is installed already, since the kernel allows only one.
There the sandbox refuses to start with a grant, and says so.
"""

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import threading

from toolsmith.sandbox.proxy import Proxy

MAX_CONNECTIONS = 32
_RECEIVE, _ANSWER, _ADD_FD = 0xC0502100, 0xC0182101, 0x40182103  # SECCOMP_IOCTL_NOTIF_*
_AND_ANSWER = 2  # SECCOMP_ADDFD_FLAG_SEND
_NOTICE_SIZE, _TYPE_OFFSET = 80, 40  # struct seccomp_notif, and the second argument in it
_CLOSED_CHECK_S = 0.5
_HANDOVER_S = 5.0


class SocketBroker:
    """Answers the `socket` calls that arrive at `listener`, a descriptor it owns, until the sandbox ends."""

    def __init__(self, listener: int, proxy: Proxy) -> None:
        self._listener, self._proxy = listener, proxy
        self._closed = threading.Event()
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._thread = threading.Thread(target=self._run, name="sandbox-sockets", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends all connections and stops answering."""
        self._closed.set()
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
        notice = bytearray(_NOTICE_SIZE)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, notice)
        except OSError:
            return  # the caller has ended
        call, kind = struct.unpack_from("=Q", notice)[0], struct.unpack_from("=Q", notice, _TYPE_OFFSET)[0]
        if not self._slots.acquire(blocking=False):
            self._refuse(call, errno.EMFILE)
            return
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.bind("")  # any name: clients take the second part of an address, so there has to be one
            theirs.setblocking(not kind & socket.SOCK_NONBLOCK)
            handed = self._hand_over(call, theirs, os.O_CLOEXEC if kind & socket.SOCK_CLOEXEC else 0)
        if handed:
            threading.Thread(target=self._serve, args=(ours,), name="sandbox-proxy", daemon=True).start()
        else:
            ours.close()
            self._slots.release()

    def _hand_over(self, call: int, theirs: socket.socket, flags: int) -> bool:
        """Whether the caller got the socket; it may have ended, or have too many files open."""
        request = struct.pack("=QIIII", call, _AND_ANSWER, theirs.fileno(), 0, flags)
        try:
            fcntl.ioctl(self._listener, _ADD_FD, request)
        except OSError as exc:
            self._refuse(call, exc.errno or errno.EPERM)
            return False
        return True

    def _refuse(self, call: int, number: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._listener, _ANSWER, bytearray(struct.pack("=QqiI", call, 0, -number, 0)))

    def _serve(self, ours: socket.socket) -> None:
        try:
            self._proxy.serve(ours)
        finally:
            self._slots.release()


def receive_listener(control: socket.socket) -> int:
    """The descriptor that the worker sends as it starts. Raises OSError if it sends none."""
    control.settimeout(_HANDOVER_S)
    _, fds, _, _ = socket.recv_fds(control, 1, 1)
    if len(fds) != 1:
        raise OSError("it did not send the listener for its sockets")
    return fds[0]
