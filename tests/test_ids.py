"""Ids are UUIDs, and no two are the same."""

from __future__ import annotations

import os
import sys
from uuid import UUID

import pytest

from headrace.ids import new_id


def test_they_are_uuids_of_version_4():
    made = [new_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    for item in made:
        assert (str(UUID(item)), UUID(item).version) == (item, 4)
        assert UUID(item).variant == "specified in RFC 4122"


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
