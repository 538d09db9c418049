import re

import pytest

from cmav.media import labels


@pytest.mark.parametrize(
    ("listed", "classes", "numbers"),
    [
        (["swim", "run", ""], ("run", "swim"), [1, 0, -1]),
        (["7", "0", ""], (), [7, 0, -1]),
        (["0", "-1", "1"], (), [0, -1, 1]),
        (["run", "-1"], ("run",), [0, -1]),
        (["007", "10"], (), [7, 10]),
        (["3 men", "1-2-3", "nan"], ("1-2-3", "3 men", "nan"), [1, 0, 2]),
        (["2147483647"], (), [2**31 - 1]),
        (["", ""], (), [-1, -1]),
    ],
)
def test_numbers_stay_and_names_are_numbered(listed, classes, numbers):
    assert labels.class_list(listed) == classes
    assert [labels.class_number(label, classes) for label in listed] == numbers


@pytest.mark.parametrize(
    ("odd", "others"),
    [
        ("0.0", ["0", "1"]),
        ("1e3", ["0", "1"]),
        ("+2", ["0", "1"]),
        ("-2", ["0", "1"]),
        ("٣", ["0", "1"]),
        ("1_0", ["0", "1"]),
        ("0.0", ["run", "swim"]),
        ("1.0", ["1.0", "2.0"]),
        ("swim", ["0", "1", "2"]),
        ("3", ["run", "swim"]),
        ("2147483648", ["0"]),
        ("99999999999999999999", ["0"]),
    ],
)
def test_an_odd_value_does_not_renumber_the_classes(odd, others):
    with pytest.raises(labels.LabelError, match=re.escape(odd)) as caught:
        labels.class_list([*others, odd])
    assert caught.value.label in (odd, *others)


def test_numbers_that_leave_out_many_are_noted():
    assert "1000001 classes" in labels.sparseness({"0", "5", "1000000"}, ())
    assert not labels.sparseness({"0", "5", "100"}, ())
    assert not labels.sparseness({"run", "swim"}, ("run", "swim"))
