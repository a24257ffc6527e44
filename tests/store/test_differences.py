"""Which entries of two nested mappings differ, and what is said of the first."""

from hypothesis import given
from hypothesis import strategies as st

from store.differences import changes, difference, differences

OLD = {"encoder": {"name": "a", "weights": {"x.npz": "1", "y.npz": "2"}}, "text": {"turn": "answer"}, "betas": (0, 1)}
NEW = {"encoder": {"name": "b", "weights": {"x.npz": "1", "y.npz": "3"}}, "text": {"turn": "answer"}, "betas": [0, 1]}


def test_names_are_dotted_and_in_order():
    assert differences(OLD, NEW) == ["encoder.name", "encoder.weights.y.npz"]
    assert changes(OLD, NEW) == ["encoder.name: a → b", "encoder.weights.y.npz: 2 → 3"]
    assert difference(OLD, NEW) == "encoder.name: 'a' there, 'b' here"
    assert difference(OLD, NEW, "in training", "now") == "encoder.name: 'a' in training, 'b' now"


def test_what_is_ignored_is_passed_over_with_all_below_it():
    assert differences(OLD, NEW, ignore=("encoder.weights",)) == ["encoder.name"]
    assert differences(OLD, NEW, ignore=("encoder",)) == []


def test_absent_equals_none_and_a_whole_mapping_may_be_absent():
    assert differences({"a": None}, {}) == []
    assert differences(None, {"a": 1}) == ["a"]
    assert differences({"a": {"b": 1}}, {"a": 3}) == ["a"]
    assert difference({"a": 1}, {"a": 1}) == ""


def test_long_values_are_cut_where_they_can_still_be_told_apart():
    assert difference({"sha256": "a" * 64}, {"sha256": "b" * 64}) == f"sha256: '{'a' * 15}… there, '{'b' * 15}… here"
    assert difference({"s": "a" * 64 + "x"}, {"s": "a" * 64 + "y"}) == f"s: '{'a' * 64}x' there, '{'a' * 64}y' here"


LEAVES = st.one_of(st.none(), st.integers(0, 2), st.lists(st.integers(0, 1), max_size=2))
INNER = st.dictionaries(st.sampled_from("ab"), LEAVES, max_size=2)
MAPPINGS = st.dictionaries(st.sampled_from("ab"), st.one_of(LEAVES, INNER), max_size=2)


@given(MAPPINGS, MAPPINGS)
def test_a_named_entry_is_one_whose_values_differ(before, after):
    """Looked up by its dotted name, which needs no walk over both at once."""

    def look_up(values, name):
        for part in name.split("."):
            values = values.get(part) if isinstance(values, dict) else None
        return values

    for name in differences(before, after):
        assert look_up(before, name) != look_up(after, name)
    assert differences(before, before) == []
    assert set(differences(before, after)) == set(differences(after, before))
