"""A PostgreSQL of the user's own: started on demand, shared by their spawnd processes, stopped by the last.

    home/                      SPAWND_HOME
      postgres/
        start.lock             held while the server's state is looked at or changed
        users.lock             held, shared, by every process that uses the server
        server.json            where the running server listens, and what it runs from
        server.log             what it says; rotated when it is started
        socket/                0700, its Unix socket (a long path moves it to the temp directory)
        data/                  0700, the cluster

The kernel drops both locks of a process that dies, however it dies, so nothing on disk needs to be believed:
a server is alive if it answers on its socket, and only the holder of ``start.lock`` starts or stops one.
It listens on nothing but that socket, and admits by the kernel's word for who is calling (``peer``).

Only ``binaries`` knows where PostgreSQL comes from, ``owner`` under which uid it runs, ``cluster`` what a data
directory holds, ``postmaster`` the server's process, ``handshake`` the few protocol messages of a probe.
"""

from __future__ import annotations

from spawnd.store.embedded.binaries import Binaries, find_binaries
from spawnd.store.embedded.report import Status, status
from spawnd.store.embedded.server import EmbeddedPostgres

__all__ = ["Binaries", "EmbeddedPostgres", "Status", "find_binaries", "status"]
