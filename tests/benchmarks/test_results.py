import re
from dataclasses import dataclass

import pytest

from benchmarks.harness.benchmark import changed
from benchmarks.harness.compare import compare, unlike
from benchmarks.harness.machine import plain_cpu_name
from benchmarks.harness.results import machine_name, newest_results, numbers, path_of, read_results, write_result
from benchmarks.report.pages import filled, pages


@dataclass(frozen=True)
class Settings:
    stream: str = "a"
    sizes: tuple[int, ...] = (200, 600)
    unit: float = 4.0
    cold: bool = False


def result(**more):
    machine = {"cpu": "AMD EPYC (R)", "cores": 2, "gpu": None}
    return {"benchmark": "b", "machine": machine, "settings": {"rounds": 3}, "quick": False, "seconds": 1.0, **more}


def test_settings_are_read_as_what_they_are():
    texts = {"stream": "b", "sizes": "1,2,3", "unit": "0.5", "cold": "true"}
    assert changed(Settings(), texts) == Settings("b", (1, 2, 3), 0.5, True)


@pytest.mark.parametrize(("name", "text"), [("sizes", "1,x"), ("unit", ""), ("cold", "yes"), ("size", "1")])
def test_settings_that_cannot_be_read_are_named(name, text):
    with pytest.raises(ValueError, match=name):
        changed(Settings(), {name: text})


def test_each_machine_has_a_folder_and_quick_runs_are_apart(tmp_path):
    assert machine_name(result()["machine"]) == "amd-epyc-r-2-cores"
    assert machine_name({"cpu": "AMD", "cores": 16, "gpu": "NVIDIA H100"}) == "nvidia-h100-16-cores"
    machine = result()["machine"]
    assert path_of("b", machine, False, tmp_path) == tmp_path / "amd-epyc-r-2-cores" / "b.json"
    assert path_of("b", machine, True, tmp_path) == tmp_path / "quick" / "b.json"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("AMD EPYC 7763 64-Core Processor", "AMD EPYC 7763"),
        (" Intel(R) Xeon(R) Platinum 8480+", "Intel Xeon Platinum 8480+"),
        ("Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz", "Intel Core i7-8550U CPU @ 1.80GHz"),
    ],
)
def test_processors_are_named_without_marks_of_trade(model, name):
    assert plain_cpu_name(model) == name


def test_of_two_machines_the_last_result_of_each_benchmark_counts(tmp_path):
    for cpu, taken, name in (("A", "2026-01", "b"), ("B", "2026-03", "b"), ("A", "2026-02", "c")):
        write_result(result(benchmark=name, machine={"cpu": cpu, "cores": 2, "taken": taken}), tmp_path)
    found = newest_results(tmp_path)
    assert {name: each["machine"]["cpu"] for name, each in found.items()} == {"b": "B", "c": "A"}


def test_results_are_read_as_they_were_written(tmp_path):
    path = write_result(result(rows=[1, 2]), tmp_path)
    assert read_results(path) == read_results(path.parent) == {"b": result(rows=[1, 2])}
    assert [file.name for file in path.parent.iterdir()] == ["b.json"]


def test_numbers_are_named_by_the_texts_of_their_row():
    rows = [{"mode": "exact", "rate": 5, "held": True}, {"rate": 7.5}]
    assert dict(numbers({"rows": rows, "none": None})) == {"rows[exact].rate": 5.0, "rows[1].rate": 7.5}


def test_only_what_was_measured_and_differs_is_compared():
    old = {"b": result(rows=[{"mode": "exact", "rate": 100, "ap": 0.9}], seconds=1), "gone": result()}
    new = {"b": result(rows=[{"mode": "minimal", "rate": 1}, {"mode": "exact", "rate": 110, "ap": 0.9}], seconds=9)}
    (change,) = compare(old, new, 0.05)
    assert (change.benchmark, change.place, change.old, change.new) == ("b", "rows[exact].rate", 100, 110)
    assert change.ratio == pytest.approx(1.1)


def test_other_machines_and_settings_are_told():
    other = result() | {"settings": {"rounds": 5}}
    other["machine"] = other["machine"] | {"cores": 4}
    assert unlike(result(), other) == ["cores was 2 and is 4", "setting rounds was 3 and is 5"]
    assert unlike(result(), result()) == []


def test_a_block_is_filled_again_and_the_rest_of_a_page_is_left_alone():
    rows = [{"seed": 0}]
    measured = result(rows=rows, means={"popularity_ap": 0.5, "tgn_ap": 0.91}) | {
        "benchmark": "synthetic_stream",
        "settings": {"epochs": 5},
    }
    measured["machine"] |= {"versions": {"torch": "2.13.0+cpu"}, "taken": "2026-11-21T00:00:00"}
    page = "above\n<!-- results: synthetic -->\nold 0.1\n<!-- /results -->\nbelow\n"
    text = filled(page, {"synthetic_stream": measured})
    assert text.startswith("above\n<!-- results: synthetic -->\n\n    python -m benchmarks run synthetic_stream ")
    assert "a TGN 0.91 (best of 5 epochs, mean of one seed; AMD EPYC (R), 2 cores, torch 2.13.0, 2026-11-21)" in text
    assert text.endswith("<!-- /results -->\nbelow\n")
    assert "old" not in text
    assert filled(text, {"synthetic_stream": measured}) == text


@pytest.mark.parametrize(("name", "said"), [("speed", "no block 'speed'"), ("sampling", "run sampling")])
def test_a_block_that_cannot_be_filled_is_named(name, said):
    with pytest.raises(ValueError, match=said):
        filled(f"<!-- results: {name} -->\nold\n<!-- /results -->", {})


def test_an_empty_block_waits_for_the_first_results_of_its_benchmark():
    page = "<!-- results: sampling_queries -->\n<!-- /results -->\n"
    assert filled(page, {}) == page
    row = {"stream": "collegemsg", "neighbors": 10, "threads": 2}
    measured = result(rows=[row | {"nodes": 1, "ratio": 0.456}, row | {"nodes": 600, "ratio": 0.6}]) | {
        "benchmark": "sampling_queries",
        "settings": {"nodes": [1, 600, 4000], "queries": 200},
    }
    measured["machine"] |= {"versions": {"torch": "2.13.0+cpu"}, "taken": "2026-11-21T00:00:00"}
    text = filled(page, {"sampling_queries": measured})
    assert "| stream | neighbours | threads | 1 node | 600 nodes | 4,000 nodes |" in text
    assert "| CollegeMsg | 10 | 2 | 0.46 | 0.60 |  |" in text
    assert filled(text, {"sampling_queries": measured}) == text


def test_a_figure_in_a_line_is_filled_again():
    rows = [{"plan": "1x1x1", "ratio_within_rounds": 1.0}, {"plan": "1x1x2", "ratio_within_rounds": 1.714}]
    page = "about <!-- value: plan_ratio(1x1x2) -->1.2<!-- /value --> times\n"
    filled_page = filled(page, {"parallel_rate": result(rows=rows)})
    assert filled_page == "about <!-- value: plan_ratio(1x1x2) -->1.71<!-- /value --> times\n"


def test_epochs_are_counted_in_which_exact_had_the_ap_of_sequential_training():
    def row(stream, staleness, *seeds):
        return {
            "stream": stream,
            "staleness": staleness,
            "mitigation": "none",
            "ap_by_seed_and_epoch": [list(each) for each in seeds],
        }

    rows = [row("a", "sequential", (0.5, 0.6), (0.5, 0.7)), row("a", "exact", (0.5, 0.6), (0.5, 0.70000001))]
    rows += [row("b", "sequential", (0.8, 0.9)), row("b", "exact", (0.8, 0.9)), row("b", "minimal", (0.1, 0.2))]
    page = "<!-- value: exact_epochs --><!-- /value -->"
    assert filled(page, {"pipeline_accuracy": result(rows=rows)}) == "<!-- value: exact_epochs -->5 of 6<!-- /value -->"


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("plan_speed", "there is no value 'plan_speed'"),
        ("plan_ratio(4x1x1)", r"results have 0 rows with \{'plan': '4x1x1'\}"),
        ("batches_missing(wikipedia, 1)", "python -m benchmarks run pipeline_accuracy"),
    ],
)
def test_a_figure_that_results_do_not_have_is_named(mark, said):
    with pytest.raises(ValueError, match=said):
        filled(f"<!-- value: {mark} -->1<!-- /value -->", {"parallel_rate": result(rows=[])})


def test_no_line_of_a_page_begins_with_a_figure():
    # Markdown takes a line that begins with a comment for a block of HTML.
    for page in pages():
        assert not re.search(r"^\s*<!-- value:", page.read_text(encoding="utf-8"), re.MULTILINE), page
