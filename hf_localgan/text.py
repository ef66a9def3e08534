"""What a character, a white space, an empty text, a lower-cased text and an equal text are: Unicode's answers, in one
place, so that the reader of pairs, the length limits, the check for shared queries, the tokenizers and the metrics
agree."""

import unicodedata
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import regex

# Letters and numbers with the marks on them; Persian and Indic words have joiners inside.
WORD = r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*(?:[\u200c\u200d][\p{L}\p{M}\p{N}]+)*"
# A user-perceived character (UAX 29), such as a letter with its marks, or an emoji of several code points.
CHARACTER = r"(?!\p{White_Space}|\p{Default_Ignorable_Code_Point})\X"
# Cells of nothing but these show nothing: spaces, controls, and what Unicode calls default ignorable, such as the
# zero-width space, joiners and variation selectors; U+2800 is Braille's blank. For RE2, which knows no such property.
INVISIBLE = (
    r"[\s\pZ\p{Cc}\p{Cf}\x{034F}\x{115F}\x{1160}\x{17B4}\x{17B5}\x{180B}-\x{180F}\x{2800}\x{3164}"
    r"\x{FE00}-\x{FE0F}\x{FFA0}\x{E0000}-\x{E0FFF}]"
)
# What stands between words: Unicode's white space, and the zero-width space, which Khmer and Thai put there.
SPACE = r"[\p{White_Space}\u200b]"
# A sigma at the end of a word; soft hyphens may stand inside of one.
FINAL_SIGMA = "(?<=[\\p{L}\\p{M}\u00ad])σ(?![\\p{M}\u00ad]*\\p{L})"
# Scripts that are written without spaces between words.
UNSPACED = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tai_Tham}\p{Tai_Viet}"
    r"\p{New_Tai_Lue}\p{Javanese}\p{Balinese}]"
)
UNSPACED_SHARE = 0.1  # of the letters; above, what white space separates is no word
SEGMENTED_SHARE = 0.2  # of the gaps between such letters; from here on the words are separated by spaces
SAMPLED_TEXTS = 1000

_CHARACTER = regex.compile(CHARACTER)
_SPACE = regex.compile(rf"{SPACE}+")
_VISIBLE = regex.compile(r"[^\p{White_Space}\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]")
_FINAL_SIGMA = regex.compile(FINAL_SIGMA)
_NO_WORD = regex.compile(r"[^\p{L}\p{N}\p{M}]+|\p{Default_Ignorable_Code_Point}+")
_LETTER_OR_NUMBER = regex.compile(r"[\p{L}\p{N}]")
# The same for ASCII alone, ten times as fast.
_ASCII_LOWER = bytes(range(256)).lower()
_ASCII_SIGNS = bytes(code for code in range(128) if not chr(code).isalnum())
_NO_SIGN = regex.compile(r"(?:\p{White_Space}|(?!\u200d)\p{Default_Ignorable_Code_Point})+")
_LETTERS = regex.compile(r"\p{L}")
_UNSPACED_LETTER = regex.compile(rf"(?=\p{{L}}){UNSPACED}")
# From one such letter to the next: marks between them, and white space where words were put apart.
_GAP = regex.compile(rf"(?=\p{{L}}){UNSPACED}\p{{M}}*(\p{{White_Space}}*)(?=\p{{L}})(?={UNSPACED})")
_CHINESE = regex.compile(r"\p{Han}")
_KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}]")


def characters(text: str) -> list[str]:
    """The user-perceived characters of a text (extended grapheme clusters, UAX 29) without what is not visible.

    `é` is one however it is coded, and so is an emoji with its skin tone, or a Thai letter with its vowel sign.
    """
    return _CHARACTER.findall(unicodedata.normalize("NFC", text))


def spaced_words(text: str) -> list[str]:
    """What white space separates, the zero-width space included, without pieces in which nothing is visible."""
    return [piece for piece in _SPACE.split(unicodedata.normalize("NFC", text)) if _VISIBLE.search(piece)]


def is_blank(text: str) -> bool:
    """Whether nothing of a text is visible: spaces, controls, zero-width characters and the like alone."""
    return _VISIBLE.search(text) is None


def without_surrogates(text: str) -> str:
    """A text of characters alone: surrogates that stand in pairs are joined, and U+FFFD replaces others.

    Surrogates are no characters, and tokenizers and files refuse them. They come from halves of emoji in JSON, and from
    bytes that are no UTF-8, for which Python reads one each.
    """
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def lower_cased(text: str) -> str:
    """A text in lower case and NFC form. A sigma at the end of a word is a final one, whichever was written."""
    # Python's own rule for the capital, which looks past apostrophes, too, is not that of the tokenizers' library.
    lowered = unicodedata.normalize("NFC", text).replace("Σ", "σ").lower()
    if "σ" in lowered:
        lowered = _FINAL_SIGMA.sub("ς", lowered)
    return unicodedata.normalize("NFC", lowered)


def equality_key(text: str) -> str:
    """A key that two texts share if they differ in case, spacing, punctuation or coding alone.

    Case is ignored as by Unicode's canonical caseless matching (definition D145): `ß` is `ss`, a final sigma a sigma, a
    decomposed letter a composed one. A text without letters and numbers keeps its signs, so that two emoji differ;
    whether an emoji asks for colour (U+FE0F) does not count.
    """
    if text.isascii():
        bare = text.encode().translate(_ASCII_LOWER, _ASCII_SIGNS)
        if bare:
            return bare.decode()
    folded = unicodedata.normalize("NFD", text).casefold()
    if not folded.isascii():
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", folded).casefold())
    bare = _NO_WORD.sub("", folded)
    return bare if _LETTER_OR_NUMBER.search(bare) else _NO_SIGN.sub("", folded)


class ScriptShares(NamedTuple):
    """The scripts of some texts, as shares of their letters from 0 to 1.

    Attributes:
        unsegmented: letters of scripts that are written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese
            and others); 0 where spaces stand between the words nevertheless.
        chinese: Chinese characters (Han).
        kana: Hiragana and Katakana.
        letters: number of letters.
    """

    unsegmented: float
    chinese: float
    kana: float
    letters: int


def script_shares(texts: Iterable[str], limit: int = SAMPLED_TEXTS) -> ScriptShares:
    """Counts the letters of the first `limit` texts by script."""
    letters = unspaced = chinese = kana = gaps = open_gaps = 0
    for text in islice(texts, limit):
        if text.isascii():
            letters += sum(map(str.isalpha, text))
            continue
        letters += len(_LETTERS.findall(text))
        unspaced += len(_UNSPACED_LETTER.findall(text))
        chinese += len(_CHINESE.findall(text))
        kana += len(_KANA.findall(text))
        spaces = _GAP.findall(text)
        gaps, open_gaps = gaps + len(spaces), open_gaps + sum(map(bool, spaces))
    segmented = open_gaps >= SEGMENTED_SHARE * gaps  # without any gap there is nothing to put apart
    total = max(letters, 1)
    return ScriptShares(0.0 if segmented else unspaced / total, chinese / total, kana / total, letters)
