"""Inventories of phones, and the tables by which a finer one is folded into a coarser one.

TIMIT's 61 symbols, their customary 39 classes (Lee and Hon 1989), and ARPAbet as pronouncing dictionaries write it.
"""

from collections.abc import Iterable, Sequence

SILENCE = "sil"
# The 61 symbols of TIMIT's transcripts and the 39 classes that they are scored as; `None` is left out.
_CLASSES: dict[str | None, str] = {
    "aa": "aa ao", "ae": "ae", "ah": "ah ax ax-h", "aw": "aw", "ay": "ay", "b": "b", "ch": "ch", "d": "d", "dh": "dh",
    "dx": "dx", "eh": "eh", "er": "er axr", "ey": "ey", "f": "f", "g": "g", "hh": "hh hv", "ih": "ih ix", "iy": "iy",
    "jh": "jh", "k": "k", "l": "l el", "m": "m em", "n": "n en nx", "ng": "ng eng", "ow": "ow", "oy": "oy", "p": "p",
    "r": "r", "s": "s", "sh": "sh zh", "t": "t", "th": "th", "uh": "uh", "uw": "uw ux", "v": "v", "w": "w", "y": "y",
    "z": "z", SILENCE: "bcl dcl gcl pcl tcl kcl epi pau h#", None: "q",
}  # fmt: skip
FOLD_61_TO_39 = {phone: target for target, phones in _CLASSES.items() for phone in phones.split()}
TIMIT_61 = tuple(sorted(FOLD_61_TO_39))
TIMIT_39 = tuple(sorted({target for target in FOLD_61_TO_39.values() if target is not None}))
_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"
ARPABET = tuple(sorted(f"{_VOWELS} {_CONSONANTS}".split()))
# A few entries of real transcripts lack the digit, so the bare vowels are symbols of this inventory, too.
ARPABET_STRESS = tuple(sorted([*ARPABET, *(vowel + digit for vowel in _VOWELS.split() for digit in "012")]))

PHONE_SETS = {
    "timit61": TIMIT_61,
    "timit39": TIMIT_39,
    "arpabet": ARPABET,
    "arpabet_stress": ARPABET_STRESS,
}
FOLDS = ("none", "timit39", "arpabet")


def fold_phones(phones: Iterable[str], fold: str = "timit39") -> list[str]:
    """Phones of a coarser inventory, one for each that is not left out. Nothing is merged: two closures stay two.

    Args:
        phones: phones of TIMIT or ARPAbet, with or without stress, in any case.
        fold: "timit39": the 39 classes of TIMIT, lower case, into which ARPAbet falls, too (`ao` is `aa`, `zh` is
            `sh`); `q` is left out. "arpabet": ARPAbet without stress, upper case. "none": as they are.

    Raises:
        ValueError: for an unknown `fold`, and for phones that it has no class for.
        TypeError: for a text, whose letters are no phones.
    """
    if fold not in FOLDS:
        raise ValueError(f"`fold` must be one of {', '.join(FOLDS)}, got {fold!r}.")
    if isinstance(phones, (str, bytes)):
        raise TypeError(f"`phones` must be a list of phones, got the text {phones!r:.60}. Split it first.")
    phones = list(phones)
    if fold == "none":
        return phones
    bare = [phone.rstrip("012") for phone in phones]
    if fold == "arpabet":
        bare = [phone.upper() for phone in bare]
        _refuse_unknown(bare, ARPABET, fold)
        return bare
    bare = [phone.lower() for phone in bare]
    _refuse_unknown(bare, {*FOLD_61_TO_39, *TIMIT_39}, fold)
    folded = [FOLD_61_TO_39.get(phone, phone) for phone in bare]
    return [phone for phone in folded if phone is not None]


def to_phone_set(phones: Iterable[str], phone_set: str) -> list[str]:
    """Phones as symbols of an inventory, by folding where that is coarser.

    Args:
        phones: phones of a transcript.
        phone_set: a name of `PHONE_SETS`.

    Raises:
        ValueError: for an unknown inventory, and phones that cannot be written in it.
    """
    if phone_set not in PHONE_SETS:
        raise ValueError(f"`phone_set` must be one of {', '.join(PHONE_SETS)}, got {phone_set!r}.")
    if phone_set in FOLDS:
        return fold_phones(phones, phone_set)
    phones = [phone.lower() if phone_set == "timit61" else phone.upper() for phone in phones]
    _refuse_unknown(phones, PHONE_SETS[phone_set], phone_set)
    return phones


def _refuse_unknown(phones: Sequence[str], known: Iterable[str], name: str):
    known = set(known)
    unknown = sorted({phone for phone in phones if phone not in known})
    if unknown:
        raise ValueError(
            f"`{name}` has no class for {', '.join(map(repr, unknown[:10]))}{', ...' if len(unknown) > 10 else ''}. "
            f"It knows {', '.join(sorted(known))}."
        )
