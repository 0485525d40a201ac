"""Who may take the place of a lost stream: the one under its source_id, else the only one that can be it, or nobody."""

import pylsl
import pytest

from rt_engine.edges.stream_search import Before, successor
from rt_engine.settings import StreamQuery


def stream(source_id, name="EMG", kind="EMG"):
    return pylsl.StreamInfo(name, kind, 16, 2000.0, pylsl.cf_float32, source_id)


def before(query, **changes):
    info = stream("amp")
    known = {"name": "EMG", "type": "EMG", "source_id": "amp", "hostname": info.hostname(), "uid": "run 1"}
    return Before(query=query, **{**known, **changes})


BY_TYPE = StreamQuery(type="EMG")
BY_ID = StreamQuery(source_id="amp")


@pytest.mark.parametrize("query", [BY_TYPE, BY_ID])
def test_the_one_under_the_same_source_id_goes_before_all_others(query):
    found, why = successor(before(query), [stream("other"), stream("amp"), stream("third")])
    assert (found.source_id(), why) == ("amp", "")


def test_two_under_the_same_source_id_are_not_chosen_between():
    found, why = successor(before(BY_ID), [stream("amp"), stream("amp")])
    assert found is None
    assert "2 streams answer under its source_id 'amp'" in why


def test_nobody_is_waited_for():
    assert successor(before(BY_TYPE), []) == (None, "no stream answers under its source_id 'amp'")


def test_one_that_the_settings_do_not_ask_for_is_named_only():
    found, why = successor(before(BY_ID), [stream("other")])
    assert found is None
    assert "has source_id 'other', which the settings do not ask for" in why


def test_the_only_one_that_the_settings_ask_for_is_told_and_taken():
    found, why = successor(before(BY_TYPE), [stream("other"), stream("markers", "Markers", "Markers")])
    assert found.source_id() == "other"
    assert why == "it came back under the source_id 'other', it was 'amp'"


@pytest.mark.parametrize(
    ("seen", "changes", "told"),
    [
        ([("b", "EMG"), ("c", "EMG")], {}, r"2 others match \('b', 'c'\), so none is taken"),
        ([("b", "EMG of another room")], {}, "is another one"),
        ([("b", "EMG")], {"hostname": "another-computer"}, "it was 'EMG' on another-computer"),
    ],
)
def test_one_that_may_be_another_subject_s_is_not_taken(seen, changes, told):
    found, why = successor(before(BY_TYPE, **changes), [stream(*each) for each in seen])
    assert found is None
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(why)


def test_a_stream_that_is_only_silent_is_no_successor_of_itself():
    silent = stream("amp")
    known = before(BY_TYPE, uid=silent.uid(), alive=True)
    assert successor(known, [silent, stream("other")]) == (None, "")
    again = stream("amp")
    outlets = [pylsl.StreamOutlet(again)]  # only an outlet gives a stream its uid
    assert successor(before(BY_TYPE, uid="run 1", alive=True), [outlets[0].get_info()])[0] is not None


def test_one_that_was_refused_is_not_looked_at_again():
    outlet = pylsl.StreamOutlet(stream("amp"))
    info = outlet.get_info()
    assert successor(before(BY_ID), [info], frozenset({info.uid()})) == (None, "")
