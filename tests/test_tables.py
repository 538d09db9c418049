import pytest

from cmav import tables

HEADINGS, ROWS = ("map", "AUC"), [("cam", "7.5"), ("attention", "41.25")]


def test_plain():
    assert tables.plain(HEADINGS, ROWS).splitlines() == ["map          AUC", "cam          7.5", "attention  41.25"]


def test_markdown():
    assert tables.markdown(HEADINGS, ROWS).splitlines() == [
        "| map       | AUC   |",
        "| --------- | ----- |",
        "| cam       | 7.5   |",
        "| attention | 41.25 |",
    ]


@pytest.mark.parametrize("table", [tables.plain, tables.markdown])
def test_a_row_has_a_cell_for_each_heading(table):
    with pytest.raises(ValueError, match="shorter"):
        table(HEADINGS, [("cam",)])
