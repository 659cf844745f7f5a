import pickle

import numpy as np
import pyarrow as pa
import pytest

from datamodules.texts import Texts, coded, object_column

WORDS = ["a", "", "Zoë", "日本", "a"]


def test_texts_of_words_gives_them_back() -> None:
    texts = Texts.of(WORDS)
    assert list(texts) == texts.tolist() == WORDS and len(texts) == 5
    assert [texts[n] for n in range(-5, 5)] == WORDS + WORDS
    assert np.asarray(texts).tolist() == WORDS
    assert texts.nbytes == 6 * 8 + 1 + 0 + 4 + 6 + 1


@pytest.mark.parametrize("place", [5, -6])
def test_texts_number_out_of_range_is_an_index_error(place: int) -> None:
    with pytest.raises(IndexError):
        Texts.of(WORDS)[place]


def test_texts_taken_by_slice_numbers_and_truth_are_texts() -> None:
    texts = Texts.of(WORDS)
    for which in (slice(1, 4), np.array([4, 2, 2]), np.array([True, False, True, False, False]), []):
        taken = texts[np.array(which, int) if which == [] else which] if isinstance(which, list) else texts[which]
        expected = np.array(WORDS, object)[np.array(which, int) if isinstance(which, list) else which]
        assert isinstance(taken, Texts) and taken.tolist() == expected.tolist()


def test_texts_of_a_cut_out_column_start_where_it_starts() -> None:
    column = pa.array(WORDS).slice(2, 2)
    assert list(Texts.from_arrow(column)) == ["Zoë", "日本"] and Texts.from_arrow(column)[0] == "Zoë"


def test_texts_joined_and_sent_to_a_worker_stay_the_same() -> None:
    joined = Texts.concat([Texts.of(WORDS), Texts.of([]), Texts.of(["b"])])
    assert list(pickle.loads(pickle.dumps(joined))) == [*WORDS, "b"]
    assert list(Texts.of([])) == []


def test_coded_and_object_column_share_names_over_pieces() -> None:
    column = pa.chunked_array([pa.array(["x", "y"]).dictionary_encode(), pa.array(["z", "x"]).dictionary_encode()])
    codes, names = coded(column)
    assert [names[code] for code in codes] == ["x", "y", "z", "x"] and sorted(names) == ["x", "y", "z"]
    words = object_column(column)
    assert words.tolist() == ["x", "y", "z", "x"] and words[0] is words[3]
    assert len(object_column(pa.array([], pa.string()))) == 0
