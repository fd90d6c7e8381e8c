"""Tables and JSON: what BIDS says of them, and what other software leaves."""

from __future__ import annotations

import os
import string

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_xai.errors import InputError
from bids_xai.tables import alike, is_missing, number, read_frame, read_table, typed, write_frame
from bids_xai.text_files import read_json, read_json_object, read_text


def save(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "onset\tlevel\n1\tface\n2\thouse\n",
        "\ufeffonset\tlevel\n1\tface\n2\thouse\n",
        "onset\tlevel\r\n1\tface\r\n2\thouse\r\n",
        "onset\tlevel\r1\tface\r2\thouse",
        "onset \t level\n 1\tface \n2\t\u00a0house\n",
        "onset\tlevel\n1\tface\t\n2\thouse\t\n",
        "onset\tlevel\t\t\n1\tface\n2\thouse\t\n",
        "onset\tlevel\n1\tface\n\n2\thouse\n\t\n  \n",
    ],
    ids=["plain", "mark", "CRLF", "CR", "white space", "tabs behind rows", "behind names", "empty lines"],
)
def test_one_table_whatever_wrote_it(tmp_path, content):
    table = read_table(save(tmp_path / "t.tsv", content))
    assert table.names == ("onset", "level")
    assert table.columns(["level", "onset"]) == {"level": ["face", "house"], "onset": ["1", "2"]}


def test_nothing_is_quoted_and_no_sign_begins_a_comment(tmp_path):
    text = 'a\tb\n"face\tx\n#2\t5" board\n""\t\'y\'\n'
    table = read_table(save(tmp_path / "t.tsv", text))
    assert table.column("a") == ['"face', "#2", '""']
    assert table.column("b") == ["x", '5" board', "'y'"]
    assert table.lines == [2, 3, 4]


def test_other_separators_of_lines_are_part_of_a_cell(tmp_path):
    table = read_table(save(tmp_path / "t.tsv", "a\tb\n1\tx\u2028y\x0bz\x85\n"))
    assert table.column("b") == ["x\u2028y\x0bz"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tb\n1\t2\n1\n", r"1 cells in line 3 and names 2"),
        ("a\tb\n1\t2\t3\n", r"3 cells in line 2 and names 2 columns"),
        ("a\tb\n\n1\t2\t\t4\n", r"4 cells in line 3"),
        ("", "first line is empty"),
        ("\t\n1\t2\n", "first line is empty"),
        (b"a\tb\n1\t2\n3\t\xe9t\xe9\n", r"line 3 holds the byte 0xe9(.|\n)*UTF-8"),
        ("a\tb\n".encode("utf-16"), "UTF-16"),
        (b"a\tb\n1\t\0\n", "line 2 holds a NUL"),
    ],
)
def test_what_is_no_table_is_refused_with_file_and_line(tmp_path, content, message):
    with pytest.raises(InputError, match=rf"t\.tsv(.|\n)*{message}"):
        read_table(save(tmp_path / "t.tsv", content))


def test_columns_are_found_by_their_one_name(tmp_path):
    table = read_table(save(tmp_path / "t.tsv", "age\tsex\tage \n1\tM\t2\n"))
    assert table.column("sex") == ["M"]
    with pytest.raises(InputError, match="has 2 columns 'age'"):
        table.column("age")
    with pytest.raises(InputError, match=r"no column 'sexe'(.|\n)*did you mean 'sex'"):
        table.column("sexe")


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.tsv").symlink_to("absent")
    for name, message in (("pipe", "not a regular"), ("link.tsv", "datalad get"), ("none", "does not exist")):
        with pytest.raises(InputError, match=message):
            read_text(tmp_path / name, "the table")


def test_labels_stay_labels_and_numbers_become_numbers(tmp_path):
    text = "subject\tsite\tage\tn\tnote\nsub\t01\t1.50\t3\tn/a\n01\t1\tn/a\t4\tNA\n"
    frame = read_frame(save(tmp_path / "t.tsv", text))
    assert frame["subject"].tolist() == ["sub", "01"]
    assert frame["site"].tolist() == ["01", "1"]
    np.testing.assert_array_equal(frame["age"], [1.5, np.nan])
    assert frame["n"].dtype == np.int64
    assert frame["note"].isna().tolist() == [True, False]
    assert read_frame(tmp_path / "t.tsv", labels=["n"])["n"].tolist() == ["3", "4"]


def test_a_cell_cannot_hold_a_line_break(tmp_path):
    for text in ("a\nb", "a\tb", "a\rb"):
        for frame in (pd.DataFrame({"name": [text]}), pd.DataFrame({text: [1]})):
            with pytest.raises(InputError, match="tabs and line breaks"):
                write_frame(frame, tmp_path / "t.tsv")


CELLS = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\t\n\r\0"), min_size=1, max_size=8
).filter(lambda cell: cell == cell.strip() and not is_missing(cell))


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.tuples(CELLS, st.floats(allow_nan=False), st.integers(-(2**53), 2**53)), min_size=1, max_size=6
    ),
    marks=st.sampled_from(["\n", "\r\n", "\r"]),
    bom=st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, rows, marks, bom):
    path = tmp_path_factory.mktemp("tables") / "t.tsv"
    frame = pd.DataFrame(rows, columns=["class", "value", "count"])
    write_frame(frame, path)
    text = path.read_bytes().replace(b"\n", marks.encode())
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text)
    found = read_frame(path)
    assert found["class"].tolist() == frame["class"].tolist()
    np.testing.assert_array_equal(found["value"].to_numpy(float), frame["value"])
    assert found["count"].tolist() == frame["count"].tolist()
    assert read_table(path).column("class") == frame["class"].tolist()


@settings(max_examples=200, deadline=None)
@given(value=st.floats(allow_nan=False), text=st.text(string.printable, max_size=4))
def test_numbers_have_one_form(value, text):
    assert number(repr(value)) == value
    if "_" in text:
        assert np.isnan(number(text))
    assert np.isnan(number("\u0661"))
    assert np.isnan(number("1,5"))


def test_levels_that_differ_only_in_form():
    levels = ["1", "1.0", "01", "2", "M", "m", "male", "low level", "lowlevel ", '"face"', "face", "house"]
    assert alike(levels) == [['"face"', "face"], ["01", "1", "1.0"], ["M", "m"], ["low level", "lowlevel "]]
    assert alike(["caf\u00e9", "cafe\u0301"]) == [["cafe\u0301", "caf\u00e9"]]
    assert alike(["1", "2", "one"]) == []


def test_cells_are_numbers_unless_one_is_a_label():
    assert typed(["1", "2.5", "-3e1"]) == [1.0, 2.5, -30.0]
    assert typed(["1", "02"]) == ["1", "02"]
    assert typed(["0", "0.5"]) == [0.0, 0.5]
    assert typed(["M", "1"]) == ["M", "1"]


def test_json_with_a_mark_and_what_is_no_json(tmp_path):
    assert read_json(save(tmp_path / "a.json", b'\xef\xbb\xbf{\r\n"a": 1}\r\n')) == {"a": 1}
    for content, message in (
        ("{", "line 1 column 2"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 10_000, "digits"),
        (b'{"a": "\xff"}', "line 1 holds the byte 0xff"),
    ):
        with pytest.raises(InputError, match=message):
            read_json(save(tmp_path / "b.json", content))
    with pytest.raises(InputError, match="holds a list"):
        read_json_object(save(tmp_path / "c.json", "[]"))
