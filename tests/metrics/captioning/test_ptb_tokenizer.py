"""Tokens of caption-like English, checked by hand against the Treebank's rules and Stanford's program."""

from __future__ import annotations

import pytest

from imglish.metrics.captioning.ptb_tokenizer import caption_words, tokenize_lines

TOKENS = [
    # plain captions
    ("A man riding a wave on top of a surfboard.", "a man riding a wave on top of a surfboard ."),
    ("two men ,one in red  ; both smile!", "two men , one in red ; both smile !"),
    ("", ""),
    ("   ", ""),
    # contractions and possessives
    ("I don't, can't, won't, isn't", "i do n't , ca n't , wo n't , is n't"),
    ("it's he'll they're we've I'm she'd", "it 's he 'll they 're we 've i 'm she 'd"),
    ("the dog's ball, the dogs' ball, James's", "the dog 's ball , the dogs ' ball , james 's"),
    ("a DOG'S ball and CAN'T", "a dog 's ball and ca n't"),
    ("couldn't've", "could n't 've"),
    ("don\u2019t and the man\u2019s hat", "do n't and the man 's hat"),
    ("cannot gonna wanna gotta Gimme lemme", "can not gon na wan na got ta gim me lem me"),
    ("a wannabe cannot-do", "a wannabe cannot-do"),
    ("'tis the season, 'twas", "'t is the season , 't was"),
    # apostrophes within words
    ("O'Brien at 5 o'clock, ma'am", "o'brien at 5 o'clock , ma'am"),
    ("y'all eat s'mores and hors d'oeuvres", "y' all eat s'mores and hors d'oeuvres"),
    ("rock 'n' roll 'em", "rock 'n' roll 'em"),
    ("the '80s and 1990's", "the '80s and 1990 's"),
    ("McDonald's-style", "mcdonald 's - style"),
    # quotation marks face the word they open
    ('a sign reads "STOP".', "a sign reads `` stop '' ."),
    ("a 'stop' sign", "a ` stop ' sign"),
    ("“No parking” and \u2018go\u2019", "`` no parking '' and ` go '"),
    ("``hi'' «hi»", "`` hi '' `` hi ''"),
    ("a \u2018quoted “sign”\u2019", "a ` quoted `` sign '''"),
    ("5' 6\" tall", "5 ' 6 '' tall"),
    # brackets
    ("two men (one in red)", "two men -lrb- one in red -rrb-"),
    ("[a] {b} boat(s)", "-lsb- a -rsb- -lcb- b -rcb- boat -lrb- s -rrb-"),
    ("smile :) wink ;-(", "smile :-rrb- wink ;--lrb-"),
    ("a <b>bold</b> sign <no parking>", "a <b> bold </b> sign <no\u00a0parking>"),
    # dashes and hyphens
    ("a - b -- c --- d \u2013 e — f", "a - b -- c -- d -- e -- f"),
    ("a half-eaten 10-year-old t-shirt, dog--cat", "a half-eaten 10-year-old t-shirt , dog -- cat"),
    ("-left right-", "- left right -"),
    # runs of dots and marks
    ("wait... no.. what… yes....", "wait ... no . . what ... yes ..."),
    ("what?! no!! yes?", "what ?! no !! yes ?"),
    (". . .", "..."),
    # numbers
    ("1,000 1.5 .5 -5 3-4 1/2 10:30", "1,000 1.5 .5 -5 3-4 1/2 10:30"),
    ("3pm 10:30am 50cc 1st 4x4", "3pm 10:30 am 50cc 1st 4x4"),
    ("1 1/2 cups, 3½ cups", "1\u00a01/2 cups , 3 1/2 cups"),
    ("call (555) 123-4567", "call -lrb-555-rrb-\u00a0123-4567"),
    ("#5 No. 5 no. The", "# 5 no. 5 no . the"),
    ("50% 50°F 5, 6", "50 % 50 ° f 5 , 6"),
    # currency
    ("$5 $1.50 US$5 £3 €4 ¥5 50¢", "$ 5 $ 1.50 us$ 5 # 3 $ 4 ¥ 5 50 cents"),
    # abbreviations keep their dot
    ("Mr. Smith, Dr. Jones vs. St. John", "mr. smith , dr. jones vs. st. john"),
    ("dogs, cats, etc. on a bed", "dogs , cats , etc. on a bed"),
    ("dogs, etc. The bed", "dogs , etc. . the bed"),
    ("the U.S. flag at 3 p.m. in Washington D.C.", "the u.s. flag at 3 p.m. in washington d.c."),
    ("the U.S. The flag", "the u.s. . the flag"),
    ("plan B. The man and J. K. Rowling", "plan b . the man and j. k. rowling"),
    ("it is. so is Sat. no one", "it is . so is sat . no one"),
    ("a dog.,", "a dog. ,"),
    # ampersands, slashes, other signs
    ("A&B, AT&T, black & white, b&w", "a&b , at&t , black & white , b & w"),
    ("AT&amp;T &amp; &lt;3", "at&t & < 3"),
    ("and/or he's/she's w/ 1/2/3", "and/or he 's / she 's w / 1/2/3"),
    ("a_b a@b.com @me #tag photo.jpg", "a_b a@b.com @me #tag photo.jpg"),
    ("see http://a.com/b?c=d, or www.a.com.", "see http://a.com/b?c=d , or www.a.com ."),
    ("a+b=c *star* ~5", "a + b = c * star * ~ 5"),
    # other alphabets and signs
    ("café NAÏVE jalapeño piñata's", "café naïve jalapeño piñata 's"),
    ("cafe\u0301 日本", "cafe\u0301 日本"),
    ("a 😀 smile x² ™ ♥", "a smile x ² ™ ♥"),
    ("no\u00a0break soft\u00adhyphen", "no break softhyphen"),
]


@pytest.mark.parametrize(("caption", "tokens"), TOKENS)
def test_captions_fall_into_treebank_tokens(caption: str, tokens: str) -> None:
    assert tokenize_lines([caption, "a"]) == [tokens.split(" ") if tokens else [], ["a"]]


def test_all_lines_at_once_give_the_same_tokens_as_each_alone() -> None:
    lines = [caption for caption, _ in TOKENS for caption in (caption, "a")]
    assert tokenize_lines(lines)[::2] == [tokens.split(" ") if tokens else [] for _, tokens in TOKENS]


@pytest.mark.parametrize(
    ("line", "following", "tokens"),
    [
        ("plan B.", "A man", ["plan", "b", "."]),
        ("plan B.", "a man", ["plan", "b."]),
        ("cats etc.", "A man", ["cats", "etc.", "."]),
        ("cats etc.", "a man", ["cats", "etc."]),
        ("No.", "5 men", ["no."]),
        ("No.", "men", ["no", "."]),
    ],
)
def test_the_next_line_decides_whether_a_dot_ends_a_sentence(
    line: str, following: str, tokens: list[str]
) -> None:
    assert tokenize_lines([line, following])[0] == tokens


def test_there_is_one_list_for_each_line() -> None:
    assert tokenize_lines([]) == []
    assert tokenize_lines(["", "a\nb", ""]) == [[], ["a", "b"], []]


def test_punctuation_is_removed_but_what_coco_overlooks_stays() -> None:
    caption = "\"It's\" a dog; (brown) -- isn't it?! Yes..."
    assert caption_words([caption]) == ["it 's a dog -lrb- brown -rrb- is n't it ?! yes".split()]


def test_long_text_without_spaces_is_read_in_no_time() -> None:
    for piece in ("a", "a.", "a-", "a'", ".", "1,", "<a ", "é/"):
        assert tokenize_lines([piece * 2000])
