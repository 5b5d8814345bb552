# SPDX-License-Identifier: Apache-2.0
"""Every row that bench/run can measure, in one table.

A row: name, what is measured, how, the unit and which way is better, the target (a ratio, or None
when the figure is only reported), and whether it belongs to the short or the long run. A row with a
limit has no peer: its own figure is held against that.

how is one of
    load      both servers under the generator: op, conns, depth, size; measure picks the figure
    memory    bytes of memory for each object after a fill
    local     shared memory against this process's own: what (put, get), size
    trips     round trips of one operation of the client library
    disk      how often a second the disk can sync
    cluster   creations on one cluster against another: sides (three nodes, one node, three etcd)
    rejoin    seconds until a node that was so many records behind is in sync again; its p99 beside
    failover  milliseconds from kill -9 of a primary to the first acknowledged change begun later
    sim       wadi-sim --scenario busy, one core: seconds against real time, or operations
beside names a row that is measured whenever this one is, for this one means little without it.
"""

KIB, MIB = 1 << 10, 1 << 20


def row(name, how, unit, better, target, kind="short", **options):
    return {"name": name, "how": how, "unit": unit, "better": better, "target": target,
            "kind": kind, **options}


def load(name, measure, target, kind="short", **options):
    unit, better = {"cpu": ("ms", "lower"), "p50": ("ms", "lower"), "ops": ("ops/s", "higher"),
                    "rate": ("GB/s", "higher")}[measure]
    return row(name, "load", unit, better, target, kind, measure=measure, **options)


AWAY = {"records": 1000000, "times": 5, "load_seconds": 6}
ROWS = [
    load("put_1k_cpu", "cpu", 1.0, op="put", conns=50, depth=1, size=KIB),
    load("get_1k_cpu", "cpu", 1.0, op="get", conns=50, depth=1, size=KIB),
    load("put_1k_p50", "p50", 1.0, op="put", conns=1, depth=1, size=KIB),
    load("get_1k_p50", "p50", 1.0, op="get", conns=1, depth=1, size=KIB),
    load("put_1k_ops_c50", "ops", 1.0, op="put", conns=50, depth=1, size=KIB),
    load("get_1k_ops_c50", "ops", 1.0, op="get", conns=50, depth=1, size=KIB),
    load("put_1k_ops_p16", "ops", 1.0, op="put", conns=50, depth=16, size=KIB),
    load("get_1k_ops_p16", "ops", 1.0, op="get", conns=50, depth=16, size=KIB),
    load("put_1m_tcp", "rate", 1.2, op="put", conns=4, depth=1, size=MIB),
    load("get_1m_tcp", "rate", 1.2, op="get", conns=4, depth=1, size=MIB),
    row("local_put_16m", "local", "GB/s", "higher", 0.75, what="put", size=16 * MIB,
        peer_name="memcpy into warm memory"),
    row("local_get_16m", "local", "GB/s", "higher", 0.9, what="get", size=16 * MIB,
        peer_name="reading private memory"),
    row("mem_per_1k_object", "memory", "bytes", "lower", 1.0, size=KIB, keys=1000000),
    row("disk_syncs", "disk", "ops/s", "higher", None),
    load("meta_ops_sync", "ops", None, op="create", conns=64, depth=1, size=0, durable=True,
         alone=True, beside="disk_syncs"),
    load("meta_ops", "ops", None, op="create", conns=64, depth=1, size=0, alone=True),
    load("meta_lookups", "ops", None, op="stat", conns=64, depth=1, size=0, alone=True),
    row("put_4k_round_trips", "trips", "trips", "lower", None, what="put", size=4 * KIB),
    row("get_4k_round_trips", "trips", "trips", "lower", None, what="get", size=4 * KIB),
    row("meta_ops_3", "cluster", "ops/s", "higher", 5.0, measure="ops", op="create", conns=64,
        depth=1, size=0, durable=True, sides=["three", "etcd"], peer_name="three etcd",
        beside="meta_ops_3_cpu"),
    row("meta_ops_3_cpu", "cluster", "ms", "lower", None, measure="cpu", op="create", conns=64,
        depth=1, size=0, durable=True, sides=["three", "etcd"], peer_name="three etcd"),
    # The processor time of one node an operation, against that of three together.
    row("meta_ops_3_vs_1", "cluster", "ms", "higher", 0.3, measure="cpu", op="create", conns=64,
        depth=1, size=0, durable=True, sides=["one", "three"], peer_name="three nodes"),
    # A cluster of five nodes under a thousand operations in a second, with faults: what it lives
    # through, and what its clients do, in a second of one processor.
    row("sim_speed", "sim", "s", "higher", 20.0, what="seconds", seeds=3,
        peer_name="real time", beside="sim_ops"),
    row("sim_ops", "sim", "ops/s", "higher", None, what="operations", seeds=3),
    row("rejoin", "rejoin", "s", "lower", None, "long", measure="took", limit=10, **AWAY),
    row("rejoin_p99", "rejoin", "ms", "lower", 2.0, "long", measure="p99", **AWAY),
    row("failover_p50", "failover", "ms", "lower", None, "long", measure="p50_ms", limit=250,
        kills=200),
    row("failover_p95", "failover", "ms", "lower", None, "long", measure="p95_ms", limit=500,
        kills=200),
    # Long enough for merges of the metadata to happen many times inside the window.
    load("put_1k_ops_sustained", "ops", None, "long", op="put", conns=50, depth=1, size=KIB,
         seconds=30),
    load("get_1k_ops_sustained", "ops", None, "long", op="get", conns=50, depth=1, size=KIB,
         seconds=30),
]
