"""Vocabularies, learnt from texts by Hugging Face's `tokenizers`, as JSON that a device reads without it."""

import json
import string
import sys

from zoo.errors import DataError

KINDS = ("words", "pieces")
APOSTROPHE = "\u2019"  # as word processors write it
_STRETCH = 256  # characters that are looked at together: most of Unicode has no capitals


def learn_vocabulary(texts, *, kind, size, pattern, special, continues, longest):
    """Learn the tokens of texts.

    Texts are made small and cut into words by `pattern`. "words" keeps the most frequent of them; "pieces" learns
    sub-words (WordPiece), so that rare words are told by their parts.

    Args:
        texts: list of str.
        kind: "words" or "pieces".
        size: int, the largest number of tokens, the special ones included; 0 for no limit but that of the texts.
        pattern: str, a regular expression that matches each word, without classes that depend on Unicode's tables.
        special: the tokens of padding and of unknown words, which become 0 and 1.
        continues: str, in front of a piece that does not begin its word.
        longest: int, characters; a longer word is unknown.

    Returns:
        Bytes of JSON: {"tokens": [...], "small": {a character: what it becomes}}. `small` has all that can end in a
        character of some token; what is in neither is unknown however it is written.

    Raises:
        DataError: the texts hold fewer than two different words.
    """
    from tokenizers import Tokenizer, models, trainers

    limit = size or sys.maxsize
    if kind == "words":
        tokenizer = Tokenizer(models.WordLevel({}, unk_token=special[1]))
        trainer = trainers.WordLevelTrainer(vocab_size=limit, special_tokens=list(special), show_progress=False)
    else:
        tokenizer = Tokenizer(models.WordPiece({}, unk_token=special[1], max_input_chars_per_word=longest))
        trainer = trainers.WordPieceTrainer(
            vocab_size=size or 30_000,
            special_tokens=list(special),
            continuing_subword_prefix=continues,
            show_progress=False,
        )
    tokenizer.normalizer, tokenizer.pre_tokenizer = _front(pattern)
    tokenizer.train_from_iterator(texts, trainer)
    found = tokenizer.get_vocab()
    tokens = sorted(found, key=found.get)
    if len(tokens) < len(special) + 2:
        raise DataError(
            f"the training texts hold {len(tokens) - len(special)} different words, expected two or more: give texts."
        )
    return json.dumps({"tokens": tokens, "small": _small("".join(tokens))}, ensure_ascii=False).encode()


def peer(vocabulary, *, pattern, longest):
    """Return Hugging Face's own `tokenizers.Tokenizer` of a vocabulary that `learn_vocabulary` returned."""
    from tokenizers import Tokenizer, models

    tokens = json.loads(vocabulary)["tokens"]
    ids = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=tokens[1], max_input_chars_per_word=longest))
    tokenizer.normalizer, tokenizer.pre_tokenizer = _front(pattern)
    return tokenizer


def _front(pattern):
    from tokenizers import Regex, normalizers, pre_tokenizers

    apostrophe = normalizers.Replace(APOSTROPHE, "'")
    words = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    return normalizers.Sequence([apostrophe, normalizers.Lowercase()]), words


def _small(known):
    """Return {character: what the tokenizer makes of it} for all of Unicode that becomes known characters only."""
    from tokenizers import normalizers

    lower, small = normalizers.Lowercase(), {APOSTROPHE: "'"}
    known = set(known + string.ascii_lowercase)  # a pattern may name them
    for start in range(0, sys.maxunicode, _STRETCH):
        stretch = "".join(map(chr, range(start, start + _STRETCH)))
        if 0xD800 <= start <= 0xDFFF or lower.normalize_str(stretch) == stretch:  # surrogates are no characters
            continue
        for character in stretch:
            becomes = lower.normalize_str(character)
            if becomes != character and known.issuperset(becomes):
                small[character] = becomes
    return small
