"""Words of captions as COCO's evaluation sees them: Penn Treebank tokens, lower case, without punctuation.

The conventions are those of the Penn Treebank (Marcus et al., Computational Linguistics 1993) in the dialect
of Stanford's ``PTBTokenizer -preserveLines -lowerCase`` (CoreNLP 3.4.1), which the COCO caption server runs
(Chen et al., arXiv 1504.00325). The patterns were found by giving that program probes and watching it.

Captions are English text. Characters above U+FFFF, such as most emoji, are dropped as that program drops
them; scripts that spell with combining signs are only roughly followed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# COCO's evaluation removes these. It never meets upper-case brackets, so brackets stay, as the word "-lrb-".
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)

# Words whose dot stays with them, wherever they stand.
_TITLES = frozenset(
    "adj adm adv alex assoc asst atty attys ave capt cf cie cmdr col comdr cpl dept det dr drs elec ens "
    "ft gen gov govs hon invt jos lt maj messrs mfg mlle mme mr mrs ms msgr mt pfc ph pres prof profs pvt "
    "rep reps rev sen sens sfc sgt spc st ste supt treas vs wm".split()
)
# Words whose dot also ends the sentence before a capital: then there are two tokens, "etc." and ".".
_ENDINGS = frozenset(
    "al ala apr ariz assn aug az bancorp bhd bldg blvd bros calif co colo conn corp cos ct dec del esq "
    "est etc ext feb fla fri ga inc ind intl jan jr jul jun kan ky ltd mar md mich minn mo mon mont neb "
    "nev nov oct okla penn ph.d plc pte pty rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues univ "
    "va vt wed wis wisc wyo".split()
)
# The same, but only with a capital: in lower case these are other words.
_CAPITAL_ENDINGS = frozenset(
    "Ark Ill La Mass Miss Ore Pa Tex Wash ARK ILL LA MASS MISS ORE PA TEX WASH".split()
)
# Words that keep their dot before a number.
_BEFORE_NUMBERS = frozenset("art ca fig figs no nos op pp prop".split())
# Words before which the dot of an initial or an acronym ends a sentence.
_SENTENCE_STARTS = (
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last Many "
    "More Mr Mr. Ms. Now Once One Other Our She Since So Some Such That The Their Then There These They "
    "This We What When While Yet You"
).split()
# Words that are two, the first of three letters.
_TWO_WORDS = frozenset("cannot gimme gonna gotta lemme wanna".split())

# "\w" also has numerals that are no digits, such as superscripts and circled numbers; here they are symbols.
_NUMERALS = r"\xb2\xb3\xb9\xbc-\xbe\u2070\u2074-\u2079\u2080-\u2089\u2150-\u2189\u2460-\u24ff\u2776-\u2793"
_ACCENTS = r"[\u0300-\u036f\u0483-\u0487]*"
_L = rf"(?:[^\W\d_{_NUMERALS}]{_ACCENTS})"  # a letter
_W = rf"(?:[^\W_{_NUMERALS}]{_ACCENTS})"  # a letter or a digit
_DASH = r"[-\u058a\u2010\u2011]"
_HYPHEN = r"[-_\u058a\u2010\u2011]"
_APOSTROPHE = r"['\u2019]"
_PART = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"  # of what slashes join
_WEB = r"[^\s\"'<>|(){}]"
_TAG = r"[A-Za-z][A-Za-z0-9._:-]*"
_NUMBER = r"[-+]?(?:\d*(?:[.,:]\d+)+|\d+)"
_CLITIC = rf"{_APOSTROPHE}(?:[smdSMD]|re|ve|ll|RE|VE|LL)(?!{_L})"

# Of all patterns that match, the one that sees most wins, the first of them where several do. What a pattern
# sees after its group decides, but is not part of the token.
_WORDS = (
    rf"({_W}*(?![nN]){_L})[nN]['\u2019`\u2018][tT]",  # do|n't
    rf"({_W}+){_CLITIC}",  # it|'s
    rf"({_W}+(?:{_HYPHEN}{_W}+)*)",  # half-eaten
    rf"({_PART}(?:/{_PART}){{1,2}})",  # and/or
    r"([A-Z]+(?:&(?:amp;)?[A-Z]+)+)",  # R&B
    rf"((?:{_W}+{_HYPHEN})*[dDlLnNoO]{_APOSTROPHE}{_L}{{2}}{_W}*(?:{_HYPHEN}{_W}+)*)",  # O'Brien
    rf"({_W}+[aeiouyAEIOUY]{_APOSTROPHE}[aeiouA-Z]{_L}*)",  # Hawai'i
    rf"({_W}(?:{_W}|[.,])*(?:{_DASH}{_W}+)+)",  # 1.5-inch
    rf"({_W}+(?:{_HYPHEN}{_W}+)*\.)[,:;]",
    rf"({_L}{_W}*(?:\.{_L}{_W}*)+)",  # U.S.A, photo.jpg
    rf"({_W}+(?:\.\d+)*\.(?:[xX]|jpe?g|JPE?G|png|PNG|gif|pdf|html?|txt|mp[34])(?!{_W}))",
    r"([sS]['\u2019]mores|S['\u2019]more|[cC]['\u2019]mon|[eE]['\u2019]er|[oO]l['\u2019]|(?:[dD]unkin|DUNKIN)['\u2019]|nor['\u2019]easter)",
    rf"([dDlLjJ]{_APOSTROPHE})",
    rf"([yY]{_APOSTROPHE})(?={_L})",  # y'|all
    r"([CF]#|[cC]\+\+)",
    rf"({_L}+[!?]{_L}+)",
)
_OTHERS = (
    r"([nN]['\u2019`\u2018][tT])",
    rf"({_CLITIC})",
    rf"({_APOSTROPHE}[nN](?:{_APOSTROPHE}|(?!{_L})))",  # rock 'n' roll
    rf"({_APOSTROPHE}(?:em|EM|[cC]ause|til|Til|[2-9]0s|\d\d(?=\s|$)))",
    r"('[tT])(?:is|was|IS|WAS)",
    rf"({_NUMBER})",
    r"((?:\d{1,4}[ \u00a0-])?\d{1,4}[/\u2044]\d{1,4})(?!\d)",  # 1 1/2
    r"(\d{1,2}[-/]\d{1,2}[-/]\d{2,4})(?!\d)",  # 12/31/2012
    r"(\(\d{3}\)[ \u00a0-]?\d{3}[ \u00a0-]?\d{4})(?!\d)",
    r"([A-Z]{1,2}\$)",
    r"(<!--[^<>\n]*-->|<[^\s<>@]+@[^\s<>]+>)",
    rf"(</?{_TAG}(?:[ \u00a0]+{_TAG}(?:=(?:\w+|'[^'<>\n]*'|\"[^\"<>\n]*\"))?)*[ \u00a0]*/?>)",
    rf"((?:https?://{_WEB}*|www)\.{_WEB}*[^\s\"'<>|(){{}}.,!?;:-])",
    rf"({_W}[\w-]+\.(?:com|net|org|edu)/{_WEB}*[^\s\"'<>|(){{}}.,!?;:-])",
    r"((?:mailto:)?[\w.+-]+@\w[\w-]*(?:\.\w[\w-]*)*)",
    rf"(@[A-Za-z_][A-Za-z_0-9]*|\#{_L}+)",
    r"([:;=][-o*']?[)(\]\[dDpP{@|\\O](?!\w))",
    r"([-^oO<>T]_[-^oO<>T](?!\w))",
    r"([\u2018\u2019\u201c\u201d]{2})",
    r"(\.{3,5}|\.(?: \.){2,}|\u2026)",
    r"([!?]+|-{2,}|_{2,}|\*{2,}|\#{2,}|<<|>>|``|'')",
)
_PATTERNS: tuple[re.Pattern[str], ...] = tuple(re.compile(pattern) for pattern in (*_WORDS, *_OTHERS))
_PLAIN = re.compile(r"[A-Za-z]+(?=[ \n])")  # most of a caption: quicker than to try all patterns
_ACRONYM = re.compile(rf"{_L}(?:\.{_L})*\.(?:{_DASH}{_W}+)*")  # U.S.-based
_ABBREVIATION = re.compile(rf"([Pp]h\.[Dd]|PH\.D|[A-Za-z]+)\.(?:{_DASH}{_W}+)*")
_BEFORE_SENTENCE = re.compile(rf"\s+(?:{'|'.join(map(re.escape, _SENTENCE_STARTS))})(?=\s|$)")
_BEFORE_CAPITAL_OR_END = re.compile(r"\s+[A-Z\xc0-\xd6\xd8-\xde]|\s*$|[^\S\n]*\n[^\S\n]*\n")
_BEFORE_NUMBER = re.compile(r"\s*\d|[,;]")
_OPENS_SINGLE = re.compile(r"[A-Za-z]\S")
_OPENS_DOUBLE = re.compile(r"[A-Za-z0-9$]")
_CONTRACTED = re.compile(rf"n['\u2019`\u2018]t|{_APOSTROPHE}(?:[smd]|re|ve|ll)")

# Symbols that are tokens; every other character that no pattern sees is dropped.
_SIGNS = (
    r"\xa1-\xac\xae-\xbf\xd7\xf7\u2010-\u2011\u2013-\u2014\u2015\u2016\u2017\u2018-\u201c\u201d"
    r"\u201e-\u2023\u2026\u2030-\u2038\u2039\u203a\u203b\u203e-\u2042\u2044\u2070\u2074-\u207e"
    r"\u2080-\u208b\u20ac\u20a0\u20a4\u2100\u2101\u2103-\u2106\u2108\u2109\u2116-\u2118\u211e-\u2123"
    r"\u2125\u2127\u2129\u212e\u2153-\u215e\u2190-\u24b5\u24d0-\u2bff\u3001\u3002\uff01-\uff0f"
    r"\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0\uffe1\uffe5\uffe6"
)
_SYMBOL = re.compile(rf"&(?:amp|lt|gt|\#\d+);|[!-~]|[{_SIGNS}]")
_SPELLINGS = {
    "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-",
    "\u2013": "--", "\u2014": "--", "\u2015": "--", "---": "--", "----": "--",
    "\u2018": "`", "\u201b": "`", "\u2039": "`", "\u2019": "'", "\u203a": "'",
    "\u201c": "``", "\u00ab": "``", "\u201d": "''", "\u00bb": "''",
    "\u20ac": "$", "\u00a4": "$", "\u20a0": "$", "\u00a3": "#", "\u00a2": "cents",
    "\u00bd": "1/2", "\u00bc": "1/4", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3",
    "&amp;": "&", "&lt;": "<", "&gt;": ">",
}  # fmt: skip
_ENTITIES = {"&apos;": "'", "&quot;": '"', "&nbsp;": " ", "&mdash;": "\u2014"}


def tokenize_lines(lines: Sequence[str]) -> list[list[str]]:
    """Penn Treebank tokens of each line, in lower case, punctuation included.

    How the next line begins can decide about a dot that ends a line, as in the program that COCO runs: in
    ``etc.`` before a capital there are two tokens, ``etc.`` and ``.``.

    Args:
        lines: Texts; a line break within one counts as a space.

    Returns:
        For each line its tokens. A token that has spaces, as ``1 1/2`` and telephone numbers may, holds
        no-break spaces instead.
    """
    text = "\n".join(_cleaned(line) for line in lines)
    tokens: list[list[str]] = [[]]
    place = 0
    while place < len(text):
        if text[place] == "\n":
            tokens.append([])
        if text[place].isspace():
            place += 1
            continue
        token, place = _next_token(text, place)
        tokens[-1] += [part for part in token.split(" ") if part]
    return tokens[: len(lines)]


def caption_words(captions: Sequence[str]) -> list[list[str]]:
    """Tokens of each caption without punctuation: what COCO's evaluation hands to every scorer.

    Args:
        captions: English captions; see :func:`tokenize_lines` for what the next one decides.
    """
    return [[token for token in line if token not in PUNCTUATION] for line in tokenize_lines(captions)]


def _cleaned(line: str) -> str:
    for entity, character in _ENTITIES.items():
        line = line.replace(entity, character)
    line = re.sub(r"(?<=\w)\u00ad(?=\w)", "", line)  # a soft hyphen is no letter
    return re.sub(r"[^\S ]|[^\u0000-\uffff]", " ", line)


def _next_token(text: str, place: int) -> tuple[str, int]:
    """Token that begins at a place that is no white space, and where to read on."""
    if (plain := _PLAIN.match(text, place)) and plain.group().lower() not in _TWO_WORDS:
        return plain.group().lower(), plain.end()
    seen, found = 0, None
    for pattern in _PATTERNS:
        match = pattern.match(text, place)
        if match and match.end() - place > seen:
            seen, found = match.end() - place, match
    dotted = _dotted(text, place)
    if dotted and dotted[1] - place >= seen:
        token, _, end = dotted
        return token.lower(), end
    if found is None:
        return _symbol(text, place)
    token = found.group(1)
    word = token.lower()
    if word in _TWO_WORDS and seen == len(word):
        return f"{word[:3]} {word[3:]}", found.end(1)
    return _spelled(token), found.end(1)


def _dotted(text: str, place: int) -> tuple[str, int, int] | None:
    """Acronym or abbreviation with its dot: the token, the end of what was seen, and where to read on."""
    if match := _ACRONYM.match(text, place):
        token, end = match.group(), match.end()
        if not token.endswith(".") or not _BEFORE_SENTENCE.match(text, end):
            return token, end, end
        return (token[:-1] if len(token) == 2 else token), end, end - 1
    match = _ABBREVIATION.match(text, place)
    if match is None:
        return None
    word, end = match.group(1), match.end()
    ending = word.lower() in _ENDINGS or word in _CAPITAL_ENDINGS
    if word.lower() in _TITLES or (ending and not match.group().endswith(".")):
        return match.group(), end, end
    if ending:
        return match.group(), end, end - 1 if _BEFORE_CAPITAL_OR_END.match(text, end) else end
    if word.lower() in _BEFORE_NUMBERS and (
        len(match.group()) > len(word) + 1 or _BEFORE_NUMBER.match(text, end)
    ):
        return match.group(), end, end
    return None


def _symbol(text: str, place: int) -> tuple[str, int]:
    """A token of one sign; quotation marks are turned to where they face."""
    match = _SYMBOL.match(text, place)
    if match is None:
        return "", place + 1
    sign = match.group()
    if sign == "'":
        sign = "`" if _OPENS_SINGLE.match(text, place + 1) else "'"
    elif sign == '"':
        sign = "``" if _OPENS_DOUBLE.match(text, place + 1) else "''"
    return _SPELLINGS.get(sign, sign), match.end()


def _spelled(token: str) -> str:
    token = token.lower()
    if token in _SPELLINGS:
        return _SPELLINGS[token]
    if token.startswith((".", "\u2026")) and not token.strip(". \u2026"):
        return "..."
    if _CONTRACTED.fullmatch(token):
        return token.replace("\u2019", "'").replace("\u2018", "`")
    if not token.strip("\u2018\u2019\u201c\u201d"):
        return "".join(_SPELLINGS[mark] for mark in token)
    token = token.replace(" ", "\u00a0")
    return token.replace("(", "-lrb-").replace(")", "-rrb-").replace("&amp;", "&")
