from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup
from matplotlib.figure import Figure

from unmasked.analysis.figures.colours import PALETTE, group_colour, group_colours
from unmasked.analysis.figures.timeline import TimelineDisplay
from unmasked.analysis.html.page import (
    Absent,
    Section,
    absent_note,
    callout,
    join_parts,
    mark_intervals,
    render_page,
    table,
)
from unmasked.analysis.html.pictures import _drop_empty_groups, image, place_svg, svg_document


def svg(drawn, alt, name="one", caption=""):
    """The figure as a page has it."""
    return place_svg(svg_document(drawn), alt, name=name, caption=caption)


VOID = {"meta", "link", "br", "img", "path", "use", "rect", "circle", "hr"}


class Checker(HTMLParser):
    """Collects tags, ids and addresses, and fails on a tag that is closed out of turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.ids, self.addresses, self.text = [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        self.addresses += [value for name, value in attrs if name in ("href", "src", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def figure(slope: float = 1.0) -> Figure:
    drawn = Figure(figsize=(3, 2))
    axes = drawn.add_subplot()
    axes.plot([0, 1], [0, slope], marker="o", clip_on=True)
    axes.set_xlabel("share of <real> videos")
    return drawn


def test_page_is_complete_and_asks_nothing_of_a_network():
    body = svg(figure(), "a line") + image(np.zeros((4, 4, 3), np.uint8), "black") + callout("good", "fine")
    page = render_page("Title", [Section("one", "One", body), Section("two", "Two", Markup("<p>x</p>"))])
    found = Checker(page)
    assert page.startswith("<!DOCTYPE html>")
    assert not any(tag == "script" for tag, _ in found.tags)
    assert len(found.ids) == len(set(found.ids))
    for address in found.addresses:
        assert address.startswith(("#", "data:"))
        if address.startswith("#"):
            assert address[1:] in found.ids
    assert not re.search(r"@import|url\((?!#)", page)
    assert '<meta name="viewport"' in page


def test_contents_link_every_section():
    page = render_page("T", [Section("a", "First", Markup("")), Section("b", "Second", Markup(""))])
    assert '<a href="#a">First</a>' in page
    assert '<a href="#b">Second</a>' in page


def test_folded_parts_open_without_a_script_and_empty_ones_are_a_list_at_the_end():
    page = render_page(
        "T",
        [
            Section("a", "First", absent_note("Nothing was tried.", "Try it.")),
            Section("b", "Second", Markup("<p>x</p>"), True, "In short."),
        ],
    )
    folded, absent = page.index('<details class="part">'), page.index("Not looked at</h2>")
    assert page.index("In short.") < page.index('<section id="b"') < absent
    assert folded < page.index('<section id="b"')
    assert absent < page.index('id="a"') < page.index("Nothing was tried. Try it.")
    assert '<a href="#a">' not in page
    assert '<a href="#absent">' in page


def test_what_is_to_be_typed_stands_in_no_backticks():
    body = Markup('<p title="`x`">run `unmasked a &amp; b` again</p><pre>`kept`</pre>')
    page = render_page("T", [Section("a", "A", body)])
    assert '<p title="`x`">run <code>unmasked a &amp; b</code> again</p><pre>`kept`</pre>' in page


def test_a_part_of_one_absent_note_is_absent():
    note = absent_note("Nothing was tried.", "Try it.")
    assert isinstance(join_parts(["", note]), Absent)
    assert not isinstance(join_parts([note, note]), Absent)
    assert not isinstance(join_parts([Markup("<p>x</p>"), note]), Absent)


def test_a_figure_loses_half_of_its_bytes_inside_a_page_and_nothing_that_is_seen():
    document = svg_document(figure())
    html = svg(figure(), "a")
    assert len(html) < len(document) / 2
    drawn = re.findall(r"<(path|use|text)\b", document)
    assert re.findall(r"<(path|use|text)\b", html) == drawn
    assert html.count("<g ") + html.count("<g>") == html.count("</g>")


def test_numbers_that_are_read_in_a_figure_keep_their_digits():
    """Ticks every 0.025 s were 0.03, 0.05, 0.07, and a threshold of 0.878 was 0.88, in pages alone."""
    document = svg_document(TimelineDisplay({"person 0": ([0.0, 0.2], [0.2, 0.3])}, 0.878).plot().figure_)
    read = [
        re.findall(r"<text[^>]*>([^<]+)</text>", text)
        for text in (document, place_svg(document, "", name="a"))
    ]
    assert read[0] == read[1]
    assert "threshold 0.878: fake above" in read[0]


def test_a_group_that_is_empty_takes_no_end_of_another():
    # A page had more ends of groups than groups where matplotlib drew an axis without lines.
    assert _drop_empty_groups('<g><g a="1"><g/><g/><path/></g></g>') == '<g a="1"><path/></g>'
    assert _drop_empty_groups('<g a="1"/><g a="2"><g><text>x</text></g></g>') == '<g a="2"><text>x</text></g>'


def test_text_is_escaped_and_markup_is_not():
    page = render_page("<script>x</script>", [Section("a", "A & B", Markup("<b>bold</b>"))], footer="1 < 2")
    assert "<script>" not in page
    assert "A &amp; B" in page
    assert "<b>bold</b>" in page
    assert "1 &lt; 2" in page


def test_section_id_given_twice_is_an_error():
    with pytest.raises(ValueError, match="'a' is given twice"):
        render_page("T", [Section("a", "A", Markup("")), Section("a", "B", Markup(""))])


def test_table_formats_numbers_and_says_what_is_missing():
    frame = pd.DataFrame(
        {"group": ["x", None], "auc": [0.98765, np.nan], "n": [12345, 6], "text": [None, "<i>"]}
    )
    html = table(frame, formats={"auc": ".3f"}, caption="By group")
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    assert (
        '<th scope="row">x</th><td data-of="auc" class="number">0.988</td>'
        '<td data-of="n" class="number">12,345</td>' in rows[1]
    )
    assert '<td data-of="text" class="missing">–</td>' in rows[1]
    assert (
        '<td data-of="auc" class="number missing">not enough data</td><td data-of="n" class="number">6</td>'
        '<td data-of="text">&lt;i&gt;</td>' in rows[2]
    )
    assert "<caption>By group</caption>" in html
    assert html.count('scope="col"') == 4
    Checker(html)


def test_table_keeps_markup_and_uses_functions():
    frame = pd.DataFrame({"a": [Markup("<b>1</b>")], "b": [0.5]}, dtype=object)
    html = table(frame, formats={"b": lambda value: f"{value:.0%} & more"})
    assert "<b>1</b>" in html
    assert "50% &amp; more" in html


def test_highlight_marks_rows_or_cells():
    frame = pd.DataFrame({"a": ["x", "y"], "b": [1, 2]}, index=[7, 8])
    by_row = table(frame, highlight=pd.Series([False, True], index=[7, 8]))
    assert by_row.count("highlight") == 1
    assert '<tr class="highlight"><th scope="row">y' in by_row
    by_cell = table(frame, highlight=pd.DataFrame({"b": [True, False]}, index=[7, 8]))
    assert '<td data-of="b" class="number highlight">1</td>' in by_cell


def test_figure_is_the_same_bytes_each_time_and_unlike_others():
    one, again, other = svg(figure(), "a"), svg(figure(), "a"), svg(figure(2.0), "a", "two")
    assert one == again
    assert not set(Checker(one).ids) & set(Checker(other).ids)


def test_figure_keeps_its_text_and_has_a_title():
    html = svg(figure(), "rises from 0 to 1 & on", caption="How <far>")
    found = Checker(html)
    assert "share of <real> videos" in "".join(found.text)
    assert "<title" in html
    assert "rises from 0 to 1 &amp; on" in html
    assert "<figcaption>How &lt;far&gt;</figcaption>" in html
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    references = set(re.findall(r'(?:url\(#|href="#)([^")]+)', html))
    assert references
    assert references <= set(found.ids)


def test_figure_made_by_pyplot_is_closed():
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    drawn, _ = pyplot.subplots()
    svg(drawn, "empty")
    assert not pyplot.fignum_exists(drawn.number)


def test_image_is_inlined_as_what_it_is():
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    assert 'src="data:image/png;base64,' in image(pixels, "noise")
    assert 'src="data:image/jpeg;base64,' in image(pixels, "noise", quality=70)
    assert 'alt="&#34;quoted&#34;"' in image(pixels, '"quoted"')
    with pytest.raises(ValueError, match="uint8"):
        image(pixels / 255, "floats")


def test_callout_says_its_kind_in_words():
    html = callout("bad", "It <fails>.", title="Fails")
    assert "Fails" in html
    assert "<p>It &lt;fails&gt;.</p>" in html
    assert "<p><p>" not in callout("note", Markup("<p>x</p>"))
    with pytest.raises(ValueError, match="'ugly' is unknown"):
        callout("ugly", "x")


def test_groups_keep_their_colour_and_differ_from_each_other():
    assert group_colour("real") == PALETTE["blue"]
    assert group_colour("never heard of") == group_colour("never heard of")
    names = [f"method {number}" for number in range(6)]
    together = group_colours([*names, "real", "fake"])
    assert len(set(together.values())) == 8
    assert together["real"] == group_colour("real")
    assert list(together) == [*names, "real", "fake"]
    assert group_colours(reversed(names)) == group_colours(names)
    assert len(group_colours([str(number) for number in range(20)])) == 20


def test_an_interval_stays_on_one_line_in_a_sentence_and_only_there():
    drawn = Markup('<svg aria-label="[0.1, 0.2]"><text>[0.1, 0.2]</text></svg>')
    cell = Markup('<td title="[0.1, 0.2]">{}</td>').format(mark_intervals("0.1 [0.1, 0.2]"))
    body = drawn + cell + Markup("<p>0.15 [0.1, 0.2], p = 0.02</p>")
    text = render_page("T", [Section("one", "One", body)])
    assert str(drawn) + str(cell) in text
    kept = ('<span class="line">[0.1, 0.2]</span>', '<span class="line">p = 0.02</span>')
    assert "<p>0.15 {}, {}</p>".format(*kept) in text


def test_sixteen_groups_have_sixteen_colours():
    """The ninth group had the colour of another."""
    names = [f"region {number}" for number in range(16)]
    assert len(set(group_colours(names).values())) == 16
