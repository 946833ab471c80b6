"""A copy-on-write table is a plain dict to whoever uses it, and leaves what it depends on alone."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tau2_exp.domains.delta import changes, fingerprint
from tau2_exp.domains.tables import Database, Records, Table, canonical, clone, set_apart


class Item(BaseModel):
    id: str
    price: float = 0.0
    tags: list[str] = []


class Shop(BaseModel):
    items: dict[str, Item]
    log: list[Item] = []


KEYS = st.sampled_from("abcdefg")
STEPS = st.lists(
    st.tuples(st.sampled_from(["read", "write", "edit", "delete", "pop", "setdefault"]), KEYS, st.integers(0, 9))
)


def start(keys: str = "abcd") -> dict[str, Item]:
    return {key: Item(id=key, tags=[key]) for key in keys}


def play(table: Any, steps: list[tuple[str, str, int]]) -> list[Any]:
    seen: list[Any] = []
    for step, key, number in steps:
        if step == "read":
            seen.append(clone(table.get(key)))
        elif step == "write":
            table[key] = Item(id=key, price=number)
        elif step == "edit" and key in table:
            table[key].tags.append(str(number))
        elif step == "delete" and key in table:
            del table[key]
        elif step == "pop":
            seen.append(table.pop(key, None))
        elif step == "setdefault":
            seen.append(clone(table.setdefault(key, Item(id=key))))
        seen.append([list(table), clone(list(table.values())), [k for k, _ in table.items()], len(table), key in table])
    return seen


@given(STEPS)
def test_a_table_is_a_dict(steps: list[tuple[str, str, int]]) -> None:
    base = Records(start())
    table, model = Table(base), start()
    assert play(table, steps) == play(model, steps)
    assert list(table.items()) == list(model.items())
    assert base == start(), "the shared records were written to"


@given(STEPS, STEPS)
def test_worlds_do_not_see_one_another(steps: list[tuple[str, str, int]], others: list[tuple[str, str, int]]) -> None:
    base = Records(start())
    one, other = Table(base), Table(base)
    play(one, steps)
    before = dict(clone(list(one.items())))
    play(other, others)
    assert dict(one.items()) == before


@given(STEPS)
def test_copies_part_ways(steps: list[tuple[str, str, int]]) -> None:
    table = Table(Records(start()))
    play(table, steps)
    copy = table.copy()
    before = list(copy.items())
    play(table, [("write", key, 7) for key in "abcdefg"])
    assert list(copy.items()) == before


@given(STEPS)
def test_text_and_fingerprint_tell_what_the_whole_would(steps: list[tuple[str, str, int]]) -> None:
    base = Shop(items=start())
    set_apart(base)
    untouched, database = Database.over(base), Database.over(base)
    play(database.items, steps)
    assert database.text() == canonical(database.contents())
    same = database.text() == untouched.text()
    assert (fingerprint(database) == fingerprint(untouched)) == same
    assert (changes(untouched, database, "agent") == {}) == same


def test_one_is_not_one_point_zero_to_a_hash() -> None:
    base = Shop(items={"a": Item(id="a", price=1.0)})
    set_apart(base)
    before, now = Database.over(base), Database.over(base)
    now.items["a"].price = 1
    assert fingerprint(now) != fingerprint(before)
    assert changes(before, now, "agent") == {}


def test_changes_name_the_leaves() -> None:
    base = Shop(items=start("ab"), log=[Item(id="x")])
    set_apart(base)
    before, now = Database.over(base), Database.over(base)
    now.items["a"].tags.append("new")
    del now.items["b"]
    now.items["c"] = Item(id="c", price=2)
    now.log.append(Item(id="y"))
    assert changes(before, now, "agent") == {
        "agent.items.a.tags.1": "new",
        "agent.items.b": None,
        "agent.items.c.id": "c",
        "agent.items.c.price": 2.0,
        "agent.items.c.tags": [],
        "agent.log.y.id": "y",
        "agent.log.y.price": 0.0,
        "agent.log.y.tags": [],
    }
