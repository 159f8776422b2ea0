"""The (39, 32) code: distance 4 by counting, against an independent matrix, and what parity sees."""

from itertools import combinations

import numpy as np
import pytest

from yieldkit.emulator import secded

BITS = 39


def matrix():
    """Check matrix, bool[7, 39], built up from columns."""
    return np.array([[column >> row & 1 for column in secded.COLUMNS] for row in range(7)], bool)


def patterns_of(weight):
    return np.array([sum(1 << bit for bit in bits) for bits in combinations(range(BITS), weight)], np.uint64)


def spread(patterns):
    """bool[k, 39] of patterns."""
    return (patterns[:, None] >> np.arange(BITS, dtype=np.uint64) & np.uint64(1)).astype(bool)


def test_the_check_matrix_is_hsiaos():
    h = matrix()
    assert sorted(set(h.sum(axis=0).tolist())) == [1, 3]
    assert len(set(secded.COLUMNS)) == BITS
    assert sorted(h[:, :32].sum(axis=1).tolist()) == [13, 13, 14, 14, 14, 14, 14]
    # Systematic: the check bits' columns are the unit vectors.
    assert (h[:, 32:] == np.eye(7, dtype=bool)).all()


def test_the_distance_is_four():
    h = matrix().astype(np.int64)
    for weight in (1, 2, 3):
        assert ((spread(patterns_of(weight)) @ h.T % 2).any(axis=1)).all()
    assert not (spread(patterns_of(4)) @ h.T % 2).any(axis=1).all()


def test_every_single_error_is_corrected_and_every_double_one_detected():
    wrong, seen = secded.read_pattern(patterns_of(1), "secded")
    assert not wrong.any()
    assert (seen == secded.CORRECTED).all()
    pairs = patterns_of(2)
    wrong, seen = secded.read_pattern(pairs, "secded")
    assert (seen == secded.DETECTED).all()
    assert (wrong == (pairs & np.uint64(0xFFFFFFFF)).astype(np.uint32)).all()


def test_triple_errors_are_detected_or_taken_for_one():
    triples = patterns_of(3)
    wrong, seen = secded.read_pattern(triples, "secded")
    assert set(np.unique(seen)) == {secded.CORRECTED, secded.DETECTED}
    h = matrix().astype(np.int64)
    syndromes = spread(triples) @ h.T % 2 @ (1 << np.arange(7))
    taken = np.isin(syndromes, secded.COLUMNS)
    assert (taken == (seen == secded.CORRECTED)).all()
    # A miscorrected word is off in the struck bits and in the one that was thought wrong.
    place = np.array([secded.COLUMNS.index(s) for s in syndromes[taken]], np.uint64)
    after = (triples[taken] ^ (np.uint64(1) << place)) & np.uint64(0xFFFFFFFF)
    assert (wrong[taken] == after.astype(np.uint32)).all()


def test_words_and_patterns_agree():
    rng = np.random.default_rng(5)
    words = rng.integers(0, 1 << 32, 4000, dtype=np.uint32)
    checks = secded.check_bits(words)
    h = matrix()
    data = (words[:, None] >> np.arange(32, dtype=np.uint32) & 1).astype(np.int64)
    assert (checks == data @ h[:, :32].T.astype(np.int64) % 2 @ (1 << np.arange(7))).all()
    pattern = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, BITS, (4000, 3), dtype=np.uint64), axis=1)
    struck = words ^ (pattern & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    given, seen = secded.decode(struck, checks ^ (pattern >> np.uint64(32)).astype(np.uint8))
    wrong, seen_again = secded.read_pattern(pattern, "secded")
    assert (given == words ^ wrong).all()
    assert (seen == seen_again).all()
    clean, nothing = secded.decode(words, checks)
    assert (clean == words).all()
    assert not nothing.any()


@pytest.mark.parametrize("weight", [1, 2, 3])
def test_parity_sees_odd_numbers_of_struck_bits(weight):
    patterns = patterns_of(weight)
    patterns = patterns[patterns < 1 << 33]
    wrong, seen = secded.read_pattern(patterns, "parity")
    assert (seen == (secded.DETECTED if weight % 2 else secded.CLEAN)).all()
    assert (wrong == (patterns & np.uint64(0xFFFFFFFF)).astype(np.uint32)).all()


def test_without_protection_nothing_is_seen():
    wrong, seen = secded.read_pattern(np.array([5, 1 << 31], np.uint64), "none")
    assert wrong.tolist() == [5, 1 << 31]
    assert not seen.any()
    assert [secded.word_bits(code) for code in secded.CODES] == [32, 33, 39]
