"""A table without a needed column is refused by its header, in the words of the reader of tables."""

import pytest

from unmasked.datasets.errors import InputError
from unmasked.datasets.table_header import check_header
from unmasked.datasets.table_reading import read_table


def write(folder, text):
    path = folder / "scores.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "video,label\na,1\nb,0\n",
        "video;label\na;1\nb;0\n",
        "# made by hand\nvideo,label,verdict\na,fake,fake\nb,real,real\n",
        "result.video,result.label,answer\na,1,x\nb,0,y\n",
        "clip,truth,P fakeness\na,1,0.9\nb,0,0.1\n",
        "score,label\n0.5,1\n0.1,0\n",
    ],
)
def test_the_header_is_refused_in_the_words_that_read_table_has(text, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as by_header:
        check_header(path)
    with pytest.raises(InputError) as by_table:
        read_table(path)
    assert str(by_header.value) == str(by_table.value)


@pytest.mark.parametrize(
    "text",
    [
        "video,label,score\na,1,0.9\n",
        "file,target,prob_fake\na,1,0.9\n",
        "video,label\na,0.93\nb,0.1\n",  # the label may be the score
        "video,label,label\na,1,1\n",
        "video,label\n",  # no row
        "a,b\n1,2\n",  # no column is known
    ],
)
def test_nothing_is_said_where_the_header_alone_does_not_decide(text, tmp_path):
    check_header(write(tmp_path, text))


def test_only_files_of_text_are_looked_at(tmp_path):
    (tmp_path / "scores.parquet").write_bytes(b"PAR1")
    for name in ("scores.parquet", "absent.csv", "."):
        check_header(tmp_path / name)
