"""A seccomp agent: takes the listeners that runtimes send to the socket named first, writes what each was sent with as a
line to standard output, and answers every call with the error number named second."""

import array
import fcntl
import json
import os
import select
import socket
import struct
import sys

RECEIVE, SEND = 0xC0502100, 0xC0182101

server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)
listeners = []
while True:
    readable, _, _ = select.select([server] + listeners, [], [])
    for ready in readable:
        if ready is server:
            connection, _ = server.accept()
            text, control, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(64))
            fds = array.array("i")
            for _, _, data in control:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            assert connection.recv(1) == b"", "one state per connection"
            print(json.dumps({"state": json.loads(text), "fds": len(fds)}), flush=True)
            listeners += list(fds)
            continue
        try:
            call = bytearray(80)
            fcntl.ioctl(ready, RECEIVE, call)
            answer = struct.pack("=QqiI", struct.unpack_from("=Q", call)[0], 0, -int(sys.argv[2]), 0)
            fcntl.ioctl(ready, SEND, answer)
        except OSError:
            listeners.remove(ready)
            os.close(ready)
