"""Tables, and how they are written."""

from __future__ import annotations

import io

from rich.console import Console

from mrm.comparing.courses import flow_table, rounds_of
from mrm.comparing.grouping import align
from mrm.comparing.tables import (
    CONFIGURATION,
    Table,
    differing_table,
    folded,
    markdown,
    percent,
    print_table,
    probability,
    signed,
)
from tests.comparing.making import made_run


def test_folded_makes_a_part_that_only_some_groups_have_one_row() -> None:
    differing = {
        "curation.annotators.a.kind": ("openai", "–"),
        "curation.annotators.a.model": ("m", "–"),
        "curation.annotators.a.top_p": ("None", "–"),  # tells nothing
        "curation.schedule": ("–", "[]"),
        "optim.lr": ("1", "2"),
        "loss.margin_scale": ("1.0", "–"),
    }
    assert folded(differing) == [
        ("curation.annotators.a", ("kind=openai, model=m", "–")),
        ("loss.margin_scale", ("1.0", "–")),
        ("optim.lr", ("1", "2")),
    ]


def test_folded_settings_of_a_part_that_is_not_used_are_told_by_its_use() -> None:
    differing = {
        "data.datasets.open.use": ("True", "True", "False"),
        "data.datasets.open.options.count": ("10", "10", "–"),
        "data.datasets.open.options.flip_rate": ("0.1", "0.2", "–"),
    }
    assert [key for key, _ in folded(differing)] == ["data.datasets.open.options.flip_rate", "data.datasets.open.use"]


def test_folded_keeps_keys_whose_values_differ_among_those_that_have_them() -> None:
    differing = {
        "c.s.0.zone": ("1", "2", "–"),
        "c.s.0.mode": ("flip", "flip", "–"),
        "c.s.0.share": ("auto", "auto", "–"),
    }
    assert folded(differing) == [("c.s.0", ("mode=flip, share=auto",) * 2 + ("–",)), ("c.s.0.zone", ("1", "2", "–"))]


def test_percent_has_the_digits_of_the_share_and_no_more() -> None:
    assert [percent(share) for share in (0.5, 0.57, 0.95, 0.975, 0.999, 0.9999)] == [
        "50%", "57%", "95%", "97.5%", "99.9%", "99.99%",
    ]  # fmt: skip


def test_differing_table_of_one_group_is_none() -> None:
    assert differing_table(align([made_run("a", 1), made_run("a", 2)])) is None


def test_markdown_escapes_what_would_break_the_table() -> None:
    text = markdown(Table("T", ("", "n"), (("a|b", "0.5 ± 0.1"), ("c", "–")), ("Note.",)))
    assert text == "### T\n\n|  | n |\n| --- | ---: |\n| a\\|b | 0.5 ± 0.1 |\n| c | – |\n\nNote."


def test_print_table_turns_what_is_too_wide() -> None:
    columns = ("", *(f"measure {i}" for i in range(12)))
    table = Table("T", columns, (("group", *("0.123 ± 0.456",) * 12),), turns=True)
    console = Console(file=io.StringIO(), width=80)
    print_table(table, console)
    assert "measure 11" in console.file.getvalue() and max(map(len, console.file.getvalue().splitlines())) <= 80
    assert table.turned().turned() == table


def test_print_table_of_settings_is_told_in_a_line_where_it_does_not_fit() -> None:
    table = Table(CONFIGURATION, ("key", *"abcdef"), tuple((f"k{i}", *"123456") for i in range(30)))
    narrow, wide = (Console(file=io.StringIO(), width=width) for width in (80, 240))
    print_table(table, narrow)
    assert narrow.file.getvalue().startswith("30 settings differ between the groups; ")
    print_table(table, wide)
    assert "k19" in wide.file.getvalue() and "10 more in output=" in wide.file.getvalue()


def test_signed_and_probability_are_as_people_write_them() -> None:
    assert [signed(value, 2) for value in (0.123, -0.123, -0.001, 0.0)] == ["+0.12", "−0.12", "0.00", "0.00"]
    assert [probability(p) for p in (None, 0.0004, 0.04)] == ["–", "< 0.001", "0.040"]


def test_flow_table_has_means_over_the_seeds_of_each_round() -> None:
    def history(flipped: float) -> list[dict]:
        first = {"round": 1, "flipped": flipped, "noise_before": 0.4, "noise_after": 0.1, "unreadable": 0}
        second = {"round": 2, "flipped": 0, "noise_after": 0.02}
        return [
            {"step": step, "name": f"curation/{name}", "value": value}
            for step, figures in ((10, first), (20, second))
            for name, value in figures.items()
        ]

    runs = [made_run("full", 1), made_run("full", 2), made_run("base", 1)]
    rounds = {runs[0].run_id: rounds_of(history(4)), runs[1].run_id: rounds_of(history(5)), runs[2].run_id: {}}
    table = flow_table(align(runs).groups, rounds)
    assert table.columns == ("", "round", "seeds", "flipped", "noise before", "noise after")
    assert table.rows == (
        ("full", "1", "2", "4.5", "0.400", "0.100"),
        ("full", "2", "2", "0", "–", "0.020"),
    )
    assert flow_table(align(runs[2:]).groups, rounds) is None
