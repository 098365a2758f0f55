"""Workers on several machines: how they find each other, agree, and hear at once that one of them has stopped."""

import contextlib
import json
import os
import queue
import socket
import sys
import threading
import time
from multiprocessing import connection

from zoo.errors import DataError, SettingError, TrainError

_GREETING = "recurrent-zoo 1"
_MESSAGE, _BYE, _LOST = b"m", b"b", b"l"  # what the first byte of everything that is sent says
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # seconds: a machine is missed after 30
PORT = 2222


class Cluster:
    """Workers, one of them the chief, that are connected through it from `join` to `leave`.

    The chief, worker 0, listens; the others call it. Nothing else has to be known beforehand: what the backend needs,
    an address of each worker, they tell each other. The connections stay open while there is work to do, so that a
    worker whose process ends, in whatever way, is missed at once by all: those then end too, with one sentence, as none
    of them can take another step. The work is taken up by starting all of them again.

    Args:
        chief: "host:port", at which the chief listens and all others can reach it.
        workers: how many there are.
        worker: which one this is, from 0, the chief.
        wait: seconds until all must have come.

    Raises:
        SettingError: an argument cannot be.
    """

    def __init__(self, chief, workers, worker, *, wait=60.0):
        host, _, port = chief.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise SettingError(f"the chief's address is {chief!r}, expected HOST:PORT, as 10.0.0.1:{PORT}.")
        if not 0 <= worker < workers:
            raise SettingError(f"received worker {worker} of {workers}, expected one from 0 to {max(0, workers - 1)}.")
        if not wait > 0:
            raise SettingError(f"received wait={wait!r}, expected seconds above 0.")
        self.address, self.workers, self.worker, self.wait = (host, int(port)), workers, worker, wait
        self.name = chief
        self.addresses = []  # "host:port" of each worker, with a free port, from `join` on
        self._peers, self._inboxes, self._left = {}, {}, set()

    @property
    def chief(self):
        """Whether this worker is the chief, who alone writes."""
        return self.worker == 0

    def join(self):
        """Wait until all workers are there.

        Raises:
            TrainError: they were not all there in time, or the address gave no answer.
            SettingError: they disagree on how many they are, two have one number, or the port is taken.
        """
        deadline = time.monotonic() + self.wait
        if self.chief:
            self._peers = self._receive_all(deadline)
            for peer in self._peers.values():
                peer.send_bytes(json.dumps({"addresses": self.addresses}).encode())
        else:
            self._peers = {0: self._call(deadline)}
        self._inboxes = {number: queue.SimpleQueue() for number in self._peers}
        threading.Thread(target=self._listen, name="cluster", daemon=True).start()

    def exchange(self, value):
        """Return the list of what every worker gave, which JSON can hold; all workers call this together."""
        if not self.chief:
            self._send(0, json.dumps(value).encode())
            return json.loads(self._receive(0))
        values = [value, *(json.loads(self._receive(number)) for number in self._peers)]
        for number in self._peers:
            self._send(number, json.dumps(values).encode())
        return values

    def from_chief(self, content=None):
        """Return the bytes that the chief gave; all workers call this together."""
        if not self.chief:
            return self._receive(0)
        for number in self._peers:
            self._send(number, content)
        return content

    def agree(self, description):
        """Compare what decides on the run between all workers.

        Args:
            description: {topic: value or {name: value}}, which JSON can hold.

        Raises:
            SettingError, DataError: a worker has another one than the chief; the second for "data" and "versions".
        """
        expected, *others = self.exchange(description)
        for worker, found in enumerate(others, 1):
            for topic, value in expected.items():
                if found.get(topic) != value:
                    self._left.update(self._peers)  # all raise this, and none has to be told
                    self._say_goodbye()
                    raise (DataError if topic in ("data", "versions") else SettingError)(
                        f"worker {worker} and the chief do not agree on {topic}: {_difference(found.get(topic), value)}"
                        ": start all workers with the same command, data and versions."
                    )

    def leave(self):
        """Part in peace; workers but the chief wait for it, so that they end well if the run does."""
        if self.chief:
            self._left.update(self._peers)  # all is written: what becomes of them matters no more
        self._say_goodbye()
        if self.chief:
            return
        if self._inboxes[0].get() is not None:
            raise TrainError("the chief had more to say than this worker expected: start all with the same command.")
        self._peers[0].close()

    def abandon(self):
        """Let the others know that this worker cannot go on; they end too."""
        self._left.update(self._peers)
        for peer in self._peers.values():
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(peer.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)  # to close it would say nothing while `_listen` waits for it

    def _receive_all(self, deadline):
        """As the chief: accept the others until all are there."""
        peers, addresses = {}, {0: f"{self.address[0]}:{free_port()}"}
        try:
            server = socket.create_server(("", self.address[1]))
        except OSError as error:
            raise SettingError(
                f"the chief cannot listen on port {self.address[1]} ({error.strerror}): end what uses it, or choose "
                "another port."
            ) from error
        with server:
            while len(peers) < self.workers - 1:
                server.settimeout(max(0.01, deadline - time.monotonic()))
                try:
                    caller, (host, *_) = server.accept()
                except TimeoutError:
                    missing = [str(number) for number in range(1, self.workers) if number not in peers]
                    raise TrainError(
                        f"after {self.wait:g} s not all {self.workers} workers were there, missing: worker "
                        f"{', '.join(missing)}: start them with the same command, or wait for longer."
                    ) from None
                peer = _connection(caller)
                said = _greeting(peer)
                if said is None:
                    continue  # something else that knocked
                number = said["worker"]
                if said["workers"] != self.workers:
                    _refuse(peer, f"the chief expects {self.workers} workers and worker {number} {said['workers']}")
                elif number in peers and not peers[number].poll():  # what has gone can be read from: its end
                    _refuse(peer, f"there are two workers of number {number}")
                else:
                    peers[number] = peer
                    own = host.startswith("127.") or host == "::1"  # called from the chief's own machine
                    addresses[number] = f"{self.address[0] if own else host}:{said['port']}"
        self.addresses = [addresses[number] for number in range(self.workers)]
        return dict(sorted(peers.items()))  # they came in any order

    def _call(self, deadline):
        """As another worker: call the chief until it answers, then wait until it says that all are there."""
        while True:
            try:
                peer = _connection(socket.create_connection(self.address, timeout=5))
                break
            except OSError as error:  # not there yet, or its name is not known yet
                if time.monotonic() > deadline:
                    raise TrainError(
                        f"worker {self.worker} got no answer from the chief at {self.name} within {self.wait:g} s "
                        f"({error.strerror or error}): is worker 0 started, and is this its address?"
                    ) from error
                time.sleep(0.2)
        greeting = {"greeting": _GREETING, "worker": self.worker, "workers": self.workers, "port": free_port()}
        try:
            peer.send_bytes(json.dumps(greeting).encode())
            if not peer.poll(max(0.0, deadline - time.monotonic()) + self.wait):  # its own wait may begin now
                raise TimeoutError("it says nothing")
            answer = json.loads(peer.recv_bytes(maxlength=10**6))
            if "refused" not in answer:
                self.addresses = answer["addresses"]
                return peer
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise TrainError(
                f"worker {self.worker} reached {self.name}, and no chief that waits for {self.workers} workers "
                f"answered ({error!r}): look at what worker 0 says, and whether this is its address."
            ) from error
        raise SettingError(f"{answer['refused']}: start each worker once, and all with the same number of workers.")

    def _say_goodbye(self):
        for number in self._peers:
            self._send(number, b"", kind=_BYE)

    def _send(self, number, content, kind=_MESSAGE):
        try:
            self._peers[number].send_bytes(kind + content)
        except OSError as error:
            if kind == _MESSAGE:
                time.sleep(5)  # in which `_listen` ends this process, if that one did not say that it goes
                raise TrainError(f"{_called(number)} is gone: start all with the same command.") from error

    def _receive(self, number):
        content = self._inboxes[number].get()
        if content is None:
            raise TrainError(f"{_called(number)} has finished, and this one has not: start all with the same command.")
        return content

    def _listen(self):
        """Read whatever comes; when a peer is gone that has not said so, end this process."""
        open_ones = {peer: number for number, peer in self._peers.items()}
        while open_ones:
            for peer in connection.wait(list(open_ones)):
                number = open_ones[peer]
                try:
                    content = peer.recv_bytes()
                except (OSError, EOFError):
                    del open_ones[peer]
                    if number not in self._left:
                        self._stop(number)
                    continue
                if content[:1] == _LOST:
                    self._stop(int(content[1:]))
                elif content[:1] == _BYE:
                    self._left.add(number)
                    self._inboxes[number].put(None)
                    del open_ones[peer]
                else:
                    self._inboxes[number].put(content[1:])

    def _stop(self, lost):
        """End this process, which may wait within the backend for the lost one, and tell the others whom."""
        for number in self._peers:
            if number != lost:
                self._send(number, str(lost).encode(), kind=_LOST)
        print(
            f"{_called(lost)} has stopped, and so does worker {self.worker}: look at what it said last. Started again "
            "with the same command, all go on from the last checkpoint.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # no exception reaches a thread that is within a collective operation


def free_port():
    """Return a port of this machine that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def _difference(found, expected):
    if not isinstance(expected, dict) or not isinstance(found, dict):
        return f"{found!r}, the chief {expected!r}"
    keys = [key for key in {**expected, **found} if expected.get(key) != found.get(key)]
    return ", ".join(f"{key}={found.get(key)!r}, the chief {expected.get(key)!r}" for key in keys)


def _called(number):
    return "the chief" if number == 0 else f"worker {number}"


def _connection(peer):
    """Return a connection that keeps the borders of messages, of a socket."""
    peer.settimeout(None)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection.Connection(peer.detach())


def _greeting(peer):
    """Return what a worker says first, or None if this is no worker."""
    try:
        if not peer.poll(5):
            return None
        said = json.loads(peer.recv_bytes(maxlength=10**4))
        known = said["greeting"] == _GREETING and all(type(said[key]) is int for key in ("worker", "workers", "port"))
        return said if known and said["worker"] > 0 else None
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _refuse(peer, why):
    peer.send_bytes(json.dumps({"refused": why}).encode())
