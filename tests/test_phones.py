"""Inventories of phones and their folding."""

import pytest

from hf_localgan.phones import FOLD_61_TO_39, PHONE_SETS, TIMIT_39, TIMIT_61, fold_phones, to_phone_set


def test_sizes_of_the_inventories():
    assert len(TIMIT_61) == 61 and len(TIMIT_39) == 39
    assert len(PHONE_SETS["arpabet"]) == 39 and len(PHONE_SETS["arpabet_stress"]) == 39 + 3 * 15
    assert set(FOLD_61_TO_39) == set(TIMIT_61) and set(FOLD_61_TO_39.values()) == {*TIMIT_39, None}


def test_timits_phones_by_hand():
    # "she had": closures and pauses are silence, q is left out, and neighbours that become equal stay two
    phones = "h# sh ix hv eh dcl jh ax-h q bcl b el ux h#".split()
    assert fold_phones(phones) == "sil sh ih hh eh sil jh ah sil b l uw sil".split()
    assert fold_phones(["dcl", "epi"]) == ["sil", "sil"]


def test_arpabet_falls_into_the_same_classes():
    assert fold_phones(["AO1", "ZH", "AH0", "HH", "ER2"]) == ["aa", "sh", "ah", "hh", "er"]
    assert fold_phones(["AO1", "zh", "AH"], "arpabet") == ["AO", "ZH", "AH"]
    assert all(fold_phones([phone])[0] in TIMIT_39 for phone in PHONE_SETS["arpabet_stress"])


def test_folding_twice_is_folding_once():
    once = fold_phones(TIMIT_61)
    assert fold_phones(once) == once


def test_what_has_no_class_is_named():
    with pytest.raises(ValueError, match="`timit39` has no class for 'xx', 'yy'"):
        fold_phones(["aa", "yy", "xx"])
    with pytest.raises(ValueError, match="`fold` must be one of none, timit39, arpabet"):
        fold_phones(["aa"], "timit48")
    with pytest.raises(ValueError, match="`phone_set` must be one of timit61"):
        to_phone_set(["aa"], "ipa")
    assert to_phone_set(["H#", "AX-H"], "timit61") == ["h#", "ax-h"]
    with pytest.raises(ValueError, match="`arpabet` has no class for 'H#'"):
        to_phone_set(["h#"], "arpabet")
