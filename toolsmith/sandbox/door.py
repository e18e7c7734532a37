"""Where connections come out of a sandbox: the host answers each `socket` call inside with one end of a pair.

Code inside never has a socket of the network. Its seccomp filter asks the host about each internet stream
socket (SECCOMP_RET_USER_NOTIF); the host puts one end of a connected pair into the calling process and keeps
the other, which the proxy serves. `connect` does nothing and says that it worked, so whatever address code
connects to, it talks to the proxy. Works the same with and without a network namespace, for all programs.

What is not covered: a system where a filter with a listener is on already (one is all the kernel allows):
there the sandbox does not start with a grant, and says so.
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
_LOOK_S = 0.5
_HANDOVER_S = 5.0


class Door:
    """Answers the calls that arrive at `listener`, a descriptor it owns, until the sandbox ends."""

    def __init__(self, listener: int, proxy: Proxy) -> None:
        self._listener, self._proxy = listener, proxy
        self._closed = threading.Event()
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._thread = threading.Thread(target=self._attend, name="sandbox-door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends all connections. After it nothing is answered."""
        self._closed.set()
        self._proxy.close()
        self._thread.join()

    def _attend(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        try:
            while not self._closed.is_set():
                ready = poll.poll(_LOOK_S * 1000)
                if ready and not ready[0][1] & select.POLLIN:
                    return  # nobody is left who could call
                if ready:
                    self._answer()
        finally:
            os.close(self._listener)

    def _answer(self) -> None:
        notice = bytearray(_NOTICE_SIZE)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, notice)
        except OSError:
            return  # the caller has gone
        call, kind = struct.unpack_from("=Q", notice)[0], struct.unpack_from("=Q", notice, _TYPE_OFFSET)[0]
        if not self._places.acquire(blocking=False):
            self._refuse(call, errno.EMFILE)
            return
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.bind("")  # any name: clients take the second part of an address, so there has to be one
            theirs.setblocking(not kind & socket.SOCK_NONBLOCK)
            placed = self._place(call, theirs, os.O_CLOEXEC if kind & socket.SOCK_CLOEXEC else 0)
        if placed:
            threading.Thread(target=self._serve, args=(ours,), name="sandbox-proxy", daemon=True).start()
        else:
            ours.close()
            self._places.release()

    def _place(self, call: int, theirs: socket.socket, flags: int) -> bool:
        """Whether the caller got the socket; it may have gone, or may have too many files open."""
        request = struct.pack("=QIIII", call, _AND_ANSWER, theirs.fileno(), 0, flags)
        try:
            fcntl.ioctl(self._listener, _ADD_FD, request)
        except OSError as error:
            self._refuse(call, error.errno or errno.EPERM)
            return False
        return True

    def _refuse(self, call: int, number: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._listener, _ANSWER, bytearray(struct.pack("=QqiI", call, 0, -number, 0)))

    def _serve(self, ours: socket.socket) -> None:
        try:
            self._proxy.serve(ours)
        finally:
            self._places.release()


def take_listener(control: socket.socket) -> int:
    """The descriptor that the worker sends as it starts. Raises OSError when there is none."""
    control.settimeout(_HANDOVER_S)
    _, fds, _, _ = socket.recv_fds(control, 1, 1)
    if len(fds) != 1:
        raise OSError("it did not hand over its connections")
    return fds[0]
