"""Ids are UUIDs, and no two are the same."""

from __future__ import annotations

import os
import sys
from uuid import UUID

import pytest

from headrace.ids import new_id, new_run_id


def test_they_are_uuids_of_version_4():
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    for item in ids:
        assert (str(UUID(item)), UUID(item).version) == (item, 4)
        assert UUID(item).variant == "specified in RFC 4122"


def test_ids_of_runs_are_uuids_of_version_7_in_the_order_of_time():
    times = [-1.0, 0.0, 1.0, 1_700_000_000.0, 1_700_000_000.001, 1_700_000_001.0]
    ids = [new_run_id(now) for now in times for _ in range(100)]
    assert len(set(ids)) == 600
    for item in ids:
        assert (str(UUID(item)), UUID(item).version, UUID(item).variant) == (item, 7, "specified in RFC 4122")
    assert [item[:13] for item in ids] == sorted(item[:13] for item in ids)
    assert UUID(ids[-1]).int >> 80 == 1_700_000_001_000


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_process_makes_others():
    new_id()  # so that some are in store
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "".join(new_id() for _ in range(20)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 720).decode()
    os.close(read)
    os.close(write)
    ours = {new_id() for _ in range(300)}
    assert len(theirs) == 720
    assert not ours & {theirs[at : at + 36] for at in range(0, 720, 36)}
