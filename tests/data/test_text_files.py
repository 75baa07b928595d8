"""Files of text as they are published and exported, each read a second time by Python alone."""

import csv
import gzip
import random
from datetime import datetime, timezone
from decimal import Decimal

import pytest

from pyg_mspipe.data import StreamError, load_stream
from pyg_mspipe.data.text_files import text_form

NUMBERS = {"src": 0, "dst": 1, "t": 2}

# Of each: the file's name, its text, the columns, the other arguments, and the separator of the plain reader.
COLLEGE = "1 2 1082040961\n3 4 1082155839\n5 2 1082414391\n1 4 1082439619\n"
PUBLISHED = {
    "SNAP CollegeMsg": ("CollegeMsg.txt", COLLEGE, NUMBERS, {}, None),
    "SNAP email-Eu": ("email-Eu-core-temporal.txt.gz", "582 364 0\n168 472 2797\n168 912 3304\n", NUMBERS, {}, None),
    "SNAP with a comment": (
        "a.txt",
        "# Directed graph\n# FromNodeId\tToNodeId\tTime\n#Nodes: 3\n\n7\t8\t1\n8\t9\t2\n",
        NUMBERS,
        {},
        "\t",
    ),
    "SNAP soc-sign-bitcoin": (
        "soc-sign-bitcoinotc.csv.gz",
        "6,2,4,1289241911.72836\n6,5,-2,1289241941.53378\n1,15,1,1289243140.39049\n",
        {"src": 0, "dst": 1, "msg": [2], "t": 3},
        {"time_scale": 100_000},
        ",",
    ),
    "SocioPatterns": (
        "primaryschool.csv",
        "31220\t1558\t1567\t3B\t3B\n31220\t1560\t1570\t3B\t3A\n31240\t1567\t1574\t3B\t3B\n",
        {"src": 1, "dst": 2, "t": 0},
        {},
        "\t",
    ),
    "Konect": (
        "out.contact",
        "% bip unweighted\n% 3 2 2\n1 1 1 1082008561\n1 2 1 1082008661\n2 1 5 1082008661\n",
        {"src": 0, "dst": 1, "msg": [2], "t": 3},
        {"separator": " "},
        None,
    ),
    "runs of blanks": ("e.txt", "  10   20 \t 5\n11\t21 6  \n 1  2  7", NUMBERS, {}, None),
    "blanks in a csv": ("e.csv", "1 2 3\r\n2 3 4\r\n", NUMBERS, {}, None),
    "bars": ("e.csv", "1|2|3\n2|3|4\n", NUMBERS, {}, "|"),
    "semicolons and commas within": ("e.csv", "1;2;3;a,b,c\n2;3;4;d,e,f\n", NUMBERS, {"separator": ";"}, ";"),
    "a mark of one's own": ("e.log", "1:2:3\n2:3:4\n", NUMBERS, {"separator": ":"}, ":"),
    "a byte order mark": ("e.txt", "\ufeff# a\n1 2 3\n2 3 4\n", NUMBERS, {}, None),
    "a comment further down": ("e.txt", "1 2 3\n# more\n#\n2 3 4\n", NUMBERS, {}, None),
    "a comment between commas": ("e.csv", "1,2,3\n# more\n2,3,4\n", NUMBERS, {}, ","),
}


def written(folder, name, text):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def plain(path, separator):
    """The rows of a file without a header by Python's own means; None separates by blanks."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip() and line.strip()[0] not in "#%"]
    return [line.split() for line in lines] if separator is None else list(csv.reader(lines, delimiter=separator))


@pytest.mark.parametrize(("name", "text", "columns", "options", "separator"), PUBLISHED.values(), ids=PUBLISHED)
def test_a_published_file_without_a_header_is_read_as_a_plain_reader_has_it(
    tmp_path, name, text, columns, options, separator
):
    path = written(tmp_path, name, text)
    rows = plain(path, separator)
    data = load_stream(path, columns=columns, **options)
    scale = options.get("time_scale", 1)
    expected = [[int(row[columns[field]]) for row in rows] for field in ("src", "dst")]
    assert [data.src.tolist(), data.dst.tolist()] == expected
    assert data.t.tolist() == [int(Decimal(row[columns["t"]]) * scale) for row in rows]
    assert data.msg.tolist() == [[float(row[place]) for place in columns.get("msg", [])] for row in rows]


@pytest.mark.parametrize("mark", [",", "\t", ";", "|", " "])
@pytest.mark.parametrize("name", ["e.csv", "e.txt", "e.tsv", "e.txt.gz"])
def test_any_separator_is_found_with_a_header_and_texts(tmp_path, mark, name):
    rows = [["ann", "tea", "5"], ["bob", "jam", "6"], ["ann", "jam", "6"]]
    text = "".join(mark.join(row) + "\n" for row in [["src", "dst", "t"], *rows])
    data = load_stream(written(tmp_path, name, f"% made by hand\n{text}"), relabel=True)
    number: dict[str, int] = {}
    expected = [[number.setdefault(each, len(number)) for each in row[:2]] for row in rows]
    assert list(zip(data.src.tolist(), data.dst.tolist(), strict=True)) == list(map(tuple, expected))
    assert data.t.tolist() == [5, 6, 6]


def test_files_made_at_random_are_read_as_a_plain_reader_has_them(tmp_path):
    for seed in range(60):
        draws = random.Random(seed)
        mark = draws.choice([",", "\t", ";", "|", " "])
        rows = [[str(draws.randrange(9)), str(draws.randrange(9)), str(t)] for t in sorted(draws.sample(range(99), 7))]
        order = draws.sample(range(4), 4)
        rows = [[(["x", *row])[place] for place in order] for row in rows]
        gap = (lambda: draws.choice([" ", "  ", "\t", " \t "])) if mark == " " else (lambda: mark)  # noqa: B023
        lines = ["".join(each + gap() for each in row[:-1]) + row[-1] for row in rows]
        for _ in range(draws.randrange(3)):
            lines.insert(draws.randrange(len(lines)), draws.choice(["# c", "%", "", "  "]))
        path = written(tmp_path, draws.choice(["e.txt", "e.txt.gz"]), draws.choice(["\n", "\r\n"]).join(lines))
        columns = {field: order.index(place) for field, place in (("src", 1), ("dst", 2), ("t", 3))}
        data = load_stream(path, columns=columns)
        expected = [[int(row[columns[field]]) for field in columns] for row in plain(path, mark.strip(" ") or None)]
        found = zip(data.src.tolist(), data.dst.tolist(), data.t.tolist(), strict=True)
        assert list(map(list, found)) == expected, (seed, lines)


def test_a_line_of_a_file_of_blanks_is_counted_with_comments_and_empty_lines(tmp_path):
    path = written(tmp_path, "e.txt", "# a\n\n1 2 3\n% b\n\n1  -2  3\n")
    with pytest.raises(StreamError, match=r"event 1 \(line 6\): dst is -2"):
        load_stream(path, columns=NUMBERS)


def test_rows_longer_than_what_is_read_at_once_stay_whole(tmp_path):
    rows = [f"{n % 7}  {n % 5}\t{n} {'x' * (n % 90)}y" for n in range(20_000)]
    data = load_stream(written(tmp_path, "e.txt", "\n".join(rows)), columns=NUMBERS)
    assert data.t.tolist() == list(range(20_000))
    assert data.src.tolist() == [n % 7 for n in range(20_000)]


def test_quotes_hold_blanks_together(tmp_path):
    path = written(tmp_path, "e.txt", '"src" "dst" "t"\n"New  York"   "B 1" 5\n"B 1" "New  York" 6\n')
    assert load_stream(path, relabel=True).src.tolist() == [0, 1]


@pytest.mark.parametrize("header", ["", "src,dst,t\n"])
def test_texts_that_begin_with_a_mark_are_ids_where_rows_have_as_many_columns(tmp_path, header):
    path = written(tmp_path, "e.csv", f"{header}#python,#java,5\n#c,#python,6\n")
    data = load_stream(path, columns=None if header else NUMBERS, relabel=True)
    assert (data.src.tolist(), data.dst.tolist()) == ([0, 2], [1, 0])


def test_a_line_that_is_a_comment_and_an_event_is_refused(tmp_path):
    path = written(tmp_path, "e.csv", "a,b,5\n# a,b,6\nb,c,7\n")
    with pytest.raises(StreamError, match=r"event 1 \(line 2\) is like a comment and like an event; delete the line"):
        load_stream(path, columns=NUMBERS, relabel=True)


@pytest.mark.parametrize("text", ["a | b | 5\nb | a | 6\n", "7|x |5\n x|7|6\nx|y|7\n"])
def test_ids_that_differ_in_blanks_alone_are_refused(tmp_path, text):
    path = written(tmp_path, "e.txt", text)
    with pytest.raises(StreamError, match="differ in blanks alone; remove those around ids"):
        load_stream(path, columns=NUMBERS, relabel=True)


WRONG = {
    "a column that is not there": ("1 2 3\n", {"columns": NUMBERS | {"t": 7}}, "has no column 7; it has 3 columns"),
    "numbers and names": ("1 2 3\n", {"columns": {"src": 0, "dst": "b", "t": 2}}, "src, dst, t and all others need"),
    "too few numbers": ("1 2 3\n", {"columns": {"src": 0}}, "src, dst, t and all others need a number each"),
    "a row cut short": ("1 2 3\n2 3\n", {"columns": NUMBERS}, "line 2 has 2 columns, the first line 3: make them the"),
    "mixed separators": (
        "1,2,3\n2,3,4\n3;4;5\n",
        {"columns": NUMBERS},
        "line 3 separates its columns by semicolons, the first line by commas: make them the same",
    ),
    "two separators": ("1,5;2,5;3,5\n", {"columns": NUMBERS}, "may be separated by commas or by semicolons; pass sep"),
    "a separator of two": ("1 2 3\n", {"separator": "::"}, "separator is '::'; give the one character"),
    "two columns": ("1 2\n2 3\n", {"columns": NUMBERS}, "has no column 2; it has 2 columns, 0, 1"),
    "nothing": ("", {"columns": NUMBERS}, "e.txt cannot be read (Empty CSV file)"),
    "comments alone": ("# a\n% b\n", {}, "cannot be read"),
    "numbers for no text": ("21 Jul", {"columns": NUMBERS}, "has no column 2"),
}


@pytest.mark.parametrize(("text", "options", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_a_file_of_text_is_said_in_one_line(tmp_path, text, options, message):
    with pytest.raises(StreamError) as raised:
        load_stream(written(tmp_path, "e.txt", text), **options)
    assert message in str(raised.value)
    assert len(raised.value.problems) == 1


def test_columns_by_number_and_separators_are_refused_for_other_files(tmp_path):
    (tmp_path / "e.npz").write_bytes(b"")
    with pytest.raises(StreamError, match="columns have numbers only in a file of text without"):
        load_stream(tmp_path / "e.npz", columns=NUMBERS)
    with pytest.raises(StreamError, match="leave out separator, which only files of text take"):
        load_stream(tmp_path / "e.npz", separator=",")


@pytest.mark.parametrize("names", ["user item ts", "FromNodeId ToNodeId when"])
def test_a_header_is_not_taken_for_an_event(tmp_path, names):
    path = written(tmp_path, "e.txt", f"{names}\n1 2 3\n2 3 4\n")
    with pytest.raises(StreamError) as raised:
        load_stream(path, columns=NUMBERS, relabel=True)
    assert "which looks like a header; use its names: pass columns={'src': " in str(raised.value)
    assert raised.value.mends == {"columns": dict(zip(("src", "dst", "t"), names.split(), strict=True))}
    assert load_stream(path, **raised.value.mends).t.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (COLLEGE, (0, 1, 2)),
        ("6,2,4,1289241911\n6,5,2,1289241941\n", (0, 1, 3)),
        ("31220\t1558\t1567\t3B\n31240\t1560\t1560\t3B\n", (1, 2, 0)),
        ("ann bob 5 2015-07-21\nbob ann 6 2015-07-20\n", (0, 1, 3)),
        ("21-07-2015|ann|bob\n20-07-2015|bob|ann\n", (1, 2, 0)),
    ],
)
def test_columns_are_proposed_where_the_first_line_is_an_event_and_the_proposal_loads(tmp_path, text, columns):
    path = written(tmp_path, "e.txt", text)
    with pytest.raises(StreamError) as raised:
        load_stream(path)
    assert raised.value.mends["columns"] == dict(zip(("src", "dst", "t"), columns, strict=True))
    assert load_stream(path, **raised.value.mends).num_events == len(text.splitlines())


def test_all_that_is_wrong_is_reported_at_once_with_what_mends_it(tmp_path):
    text = "".join(f"u{n % 3} v{n % 2} {t}\n" for n, t in enumerate(["5.5", "4.25", "9"]))
    path = written(tmp_path, "e.txt", text)
    with pytest.raises(StreamError) as raised:
        load_stream(path)
    said = [problem.removeprefix(f"{path}") for problem in raised.value.problems]
    marks = ["has no column 'src'", "not integer ids", "not a whole number", "t decreases from 5.5 to 4.25"]
    assert len(said) == len(marks)
    assert all(mark in line for mark, line in zip(marks, said, strict=True))
    data = load_stream(path, **raised.value.mends)
    assert data.t.tolist() == [4250, 5500, 9000]
    assert data.src.tolist() == [2, 0, 4]


def test_what_no_argument_mends_comes_with_no_mends(tmp_path):
    path = written(tmp_path, "e.csv", "src,dst,t,msg\nann,bob,5,\nbob,ann,3,1\n")
    with pytest.raises(StreamError) as raised:
        load_stream(path)
    assert (len(raised.value.problems), raised.value.mends) == (3, {})


@pytest.mark.parametrize(
    ("time_format", "dates", "unit"),
    [
        ("%d-%m-%Y", ["21-07-2015", "1-8-2015", "29-02-2016"], 86_400),
        ("%m/%d/%Y", ["07/21/2015", "08/01/2015"], 86_400),
        ("%d.%m.%Y %H:%M", ["21.07.2015 09:10", "21.07.2015 23:59"], 1),
        ("%Y%m%d%H%M%S", ["20150721091011", "20150721091012"], 1),
        ("%d %b %Y %I:%M %p", ["21 Jul 2015 09:10 PM", "22 Jul 2015 12:00 AM"], 1),
        ("%d-%m-%Y %H:%M:%S.%f", ["21-07-2015 09:10:11.5", "21-07-2015 09:10:11.500001"], 1e-6),
        ("%d-%m-%Y %H:%M %z", ["21-07-2015 09:10 +0200", "21-07-2015 09:10 -0100"], 1),
        ("%Y-%m-%d", ["2015-07-21", "2015-07-22"], 86_400),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "txt.gz"])
def test_dates_in_a_format_are_those_of_pythons_strptime(tmp_path, time_format, dates, unit, suffix):
    path = written(tmp_path, f"e.{suffix}", "".join(f"1|2|{each}\n" for each in dates))
    moments = [datetime.strptime(each, time_format) for each in dates]
    moments = [each if each.tzinfo else each.replace(tzinfo=timezone.utc) for each in moments]
    microseconds = [int(each.timestamp()) * 10**6 + each.microsecond for each in moments]
    data = load_stream(path, columns=NUMBERS, time_format=time_format)
    assert data.t.tolist() == [each // round(unit * 1e6) for each in microseconds]


def test_dates_in_a_format_are_the_numbers_that_they_are_in_iso_form(tmp_path):
    own = written(tmp_path, "own.csv", "src,dst,t\n1,2,21-07-2015\n1,2,22-07-2015\n")
    iso = written(tmp_path, "iso.csv", "src,dst,t\n1,2,2015-07-21\n1,2,2015-07-22\n")
    assert load_stream(own, time_format="%d-%m-%Y").t.tolist() == load_stream(iso).t.tolist()


@pytest.mark.parametrize("odd", ["31-02-2015", "2015-07-21", "now", "today", "21-07-15", "21-07-2015x", "5"])
def test_a_date_that_does_not_fit_the_format_is_named_with_its_line(tmp_path, odd):
    path = written(tmp_path, "e.csv", f"src,dst,t\n1,2,21-07-2015\n1,2,{odd}\n1,2,22-07-2015\n")
    message = rf"event 1 \(line 3\): column 't' holds '{odd}', not a date of the form '%d-%m-%Y'; mend the line"
    with pytest.raises(StreamError, match=message):
        load_stream(path, time_format="%d-%m-%Y")


def test_formats_that_fit_are_proposed_and_two_are_left_to_the_user(tmp_path):
    path = written(tmp_path, "e.csv", "src,dst,t\n1,2,21/07/2015\n1,2,22/07/2015\n")
    for options in ({}, {"time_format": "%d-%m-%Y"}):
        with pytest.raises(StreamError, match="pass time_format='%d/%m/%Y'") as raised:
            load_stream(path, **options)
        assert raised.value.mends == {"time_format": "%d/%m/%Y"}
    written(tmp_path, "e.csv", "src,dst,t\n1,2,03/07/2015\n1,2,04/07/2015\n")
    with pytest.raises(StreamError, match="pass time_format='%d/%m/%Y' or time_format='%m/%d/%Y'") as raised:
        load_stream(path)
    assert raised.value.mends == {}


@pytest.mark.parametrize(
    ("time_format", "message"),
    [
        ("%Q", "time_format '%Q' is none"),
        ("dd-mm-yyyy", "not a date of the form 'dd-mm-yyyy'; pass time_format='%d-%m-%"),
    ],
)
def test_a_format_that_is_none_is_refused(tmp_path, time_format, message):
    path = written(tmp_path, "e.csv", "src,dst,t\n1,2,21-07-2015\n")
    with pytest.raises(StreamError) as raised:
        load_stream(path, time_format=time_format)
    assert message in str(raised.value)


def test_a_format_is_refused_for_dates_that_are_no_texts(path_of_dates):
    with pytest.raises(StreamError, match="column 't' holds no texts; leave out time_format"):
        load_stream(path_of_dates, time_format="%d-%m-%Y")


@pytest.fixture
def path_of_dates(tmp_path):
    import numpy as np

    np.savez(tmp_path / "e.npz", src=[0], dst=[1], t=np.array(["2020-01-01"], dtype="datetime64[D]"))
    return tmp_path / "e.npz"


def test_the_form_is_told_in_words(tmp_path):
    path = written(tmp_path, "e.txt", "# a\n% b\n1 2 3\n")
    assert str(text_form(path, header=False)) == ("columns separated by blanks, no header, comment lines above: 2")
    assert str(text_form(written(tmp_path, "e.csv", "a,b,c\n"))) == "columns separated by commas"
