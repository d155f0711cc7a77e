from __future__ import annotations

from services.common.bounded_cache import BoundedCache


def test_the_oldest_goes_where_there_is_no_room() -> None:
    known = BoundedCache[str, int](2)
    known["a"], known["b"], known["c"] = 1, 2, 3
    assert dict(known) == {"b": 2, "c": 3}


def test_what_is_set_again_is_new_again() -> None:
    known = BoundedCache[str, int](2)
    known["a"], known["b"], known["a"], known["c"] = 1, 2, 3, 4
    assert dict(known) == {"a": 3, "c": 4}
