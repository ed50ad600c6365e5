"""What recurs among rows, beside plain Python that counts with dictionaries."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.transform.repeats import Ids, Uses, crowded, disputed, handovers, shared, union

quick = settings(max_examples=60, deadline=None)
hashes = st.lists(st.integers(0, 12), max_size=30)
uses_drawn = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(0, 5)), max_size=30)


def ids_of(values: list[int], usable: list[bool]) -> Ids:
    return Ids.of(np.array(values, np.uint64), np.array(usable, np.bool_))


@quick
@given(one=hashes, other=hashes, data=st.data())
def test_ids_are_found_again(one: list[int], other: list[int], data: st.DataObject) -> None:
    usable = [data.draw(st.booleans()) for _ in one]
    ids, others = ids_of(one, usable), ids_of(other, [True] * len(other))
    standing = [value for value, is_usable in zip(one, usable, strict=True) if is_usable]
    assert ids.twice().tolist() == sorted(value for value, n in Counter(standing).items() if n > 1)
    assert ids.shared_with(others).tolist() == sorted(set(standing) & set(other))
    chosen = union([ids.twice(), ids.shared_with(others)])
    wanted = set(chosen.tolist())
    assert ids.rows_of(chosen).tolist() == [
        row for row, value in enumerate(one) if usable[row] and value in wanted
    ]


@quick
@given(rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=30), limit=st.integers(1, 5))
def test_a_minute_is_crowded_above_the_limit(rows: list[tuple[int, int]], limit: int) -> None:
    learner, minute = (np.array([row[part] for row in rows], np.int64) for part in range(2))
    often = Counter(rows)
    assert crowded(learner.astype(np.uint64), minute, limit).tolist() == [often[row] > limit for row in rows]


def uses_of(rows: list[tuple[int, int, int]]) -> Uses:
    device, learner, at = (np.array([row[part] for row in rows], np.int64) for part in range(3))
    return Uses(device.astype(np.int32), learner.astype(np.uint64), at, np.arange(len(rows)) * 10)


@quick
@given(rows=uses_drawn)
def test_devices_of_several_learners_are_shared(rows: list[tuple[int, int, int]]) -> None:
    uses = uses_of(rows)
    users: dict[int, set[int]] = {}
    at_once: dict[tuple[int, int], set[int]] = {}
    for device, learner, at in rows:
        users.setdefault(device, set()).add(learner)
        at_once.setdefault((device, at), set()).add(learner)
    assert shared(uses.device, uses.learner_key).tolist() == [len(users[device]) > 1 for device, _, _ in rows]
    assert disputed(uses).tolist() == [
        10 * row for row, (device, _, at) in enumerate(rows) if len(at_once[device, at]) > 1
    ]


def test_a_row_without_a_device_shares_none() -> None:
    codes = np.array([-1, 0, -1, 0], np.int32)
    assert shared(codes, np.array([1, 2, 3, 4], np.uint64)).tolist() == [False, True, False, True]
    assert not shared(codes[:1], np.array([1], np.uint64)).any()


@quick
@given(rows=uses_drawn, data=st.data())
def test_a_device_changes_hands_after_a_learners_last_use(
    rows: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    rank = data.draw(st.permutations(range(len(rows))))
    expected = set()
    for device in {row[0] for row in rows}:
        own = sorted(
            (at, rank[row], learner) for row, (name, learner, at) in enumerate(rows) if name == device
        )
        for (at, _, learner), (_, _, following) in pairwise(own):
            if learner != following:
                expected.add((learner, at))
    learners, moments = handovers(uses_of(rows), np.array(rank, np.int64))
    assert list(zip(learners.tolist(), moments.tolist(), strict=True)) == sorted(expected)
