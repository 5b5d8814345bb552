#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts words by functions in processes of their own, whose whole exchange goes through a job.

    wordcount.py FILE [MAPPERS] [REDUCERS]

Each mapper takes a share of the file and stores one object for each reducer; each reducer waits for
the objects of all mappers, which are gone once it has read them. Nobody knows anybody's address,
and when the job ends nothing is left.
"""
import collections
import concurrent.futures
import os
import pickle
import re
import sys
import zlib

import wadi

WORD = re.compile(rb"[a-z']+")


def share_of(path, i, n):
    """The i-th of n shares of a file, cut at line ends."""
    size = os.path.getsize(path)
    with open(path, "rb") as f:
        if i > 0:
            f.seek(size * i // n - 1)
            f.readline()
        while f.tell() < size * (i + 1) // n:
            yield f.readline()


def mapper(token, path, i, mappers, reducers):
    counts = [collections.Counter() for _ in range(reducers)]
    for line in share_of(path, i, mappers):
        for word in WORD.findall(line.lower()):
            counts[zlib.crc32(word) % reducers][word] += 1
    with wadi.connect(token=token) as w:
        w.own.put_many(((f"part/{i}/{r}", pickle.dumps(c)) for r, c in enumerate(counts)),
                       delete_on_read=True)


def reducer(token, r, mappers):
    total = collections.Counter()
    with wadi.connect(token=token) as w:
        for i in range(mappers):
            with w.own.view(f"part/{i}/{r}", wait=60) as part:
                total.update(pickle.loads(part.data))
        w.own.put(f"count/{r}", pickle.dumps(total))


def main(path, mappers=4, reducers=2):
    with wadi.connect() as w, w.job("wordcount", workers=mappers + reducers) as job:
        # Reducers and mappers start together: waiting for an object is all the order there is.
        with concurrent.futures.ProcessPoolExecutor(mappers + reducers) as pool:
            running = [pool.submit(reducer, job.token, r, mappers) for r in range(reducers)]
            running += [pool.submit(mapper, job.token, path, i, mappers, reducers)
                        for i in range(mappers)]
            for f in running:
                f.result()
        total = collections.Counter()
        for entry in job.list("count/"):
            total.update(pickle.loads(job.get(entry.name)))
        left = [e.name for e in job.list("part/")]
        if left:
            sys.exit("not read: " + ", ".join(left))
    for word, n in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:10]:
        print("%7d  %s" % (n, word.decode()))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:4]))
