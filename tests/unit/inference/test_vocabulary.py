"""A small model says which words it does not know."""

from node.inference.vocabulary import unknown_words_warning

KNOWN = frozenset({"a", "an", "astronaut", "green", "horse", "riding"})


def test_known_words_in_any_case_and_punctuation_give_no_warning() -> None:
    assert unknown_words_warning("An ASTRONAUT, riding a green horse!", KNOWN) is None


def test_unknown_words_are_named_once() -> None:
    warning = unknown_words_warning("a spaceman riding a pony, a pony", KNOWN)
    assert warning is not None
    assert "does not know spaceman, pony;" in warning


def test_many_unknown_words_are_cut_short() -> None:
    warning = unknown_words_warning(" ".join(f"word{n}" for n in range(50)), KNOWN)
    assert warning is not None
    assert len(warning) < 200


def test_text_without_words_is_not_known_either() -> None:
    assert unknown_words_warning("?!", KNOWN) is not None


def test_a_model_that_takes_any_text_never_warns() -> None:
    assert unknown_words_warning("anything at all", frozenset()) is None
