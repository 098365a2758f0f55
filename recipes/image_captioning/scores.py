"""How near captions come to what people wrote: BLEU, CIDEr, METEOR, as COCO's evaluation computes them."""

import shutil

from zoo.errors import DataError


def score(captions, references, *, meteor=False):
    """Return the scores of captions.

    pycocoevalcap's BLEU-1 to 4 (the corpus's, with the nearest reference length) and CIDEr (CIDEr-D, 10 at most), and
    the share of captions that are one of the references, word for word. Words are taken as they are: COCO's own
    tokeniser is not needed where both sides are words already.

    Args:
        captions: list of lists of words.
        references: list, for each caption, of lists of words.
        meteor: bool, METEOR too, which runs a Java program that comes with pycocoevalcap.

    Returns:
        dict of bleu_1 to bleu_4, cider, exact, and meteor.

    Raises:
        DataError: METEOR is asked for and there is no Java.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    if meteor and not shutil.which("java"):
        raise DataError("METEOR needs Java, which is not here: install a Java runtime, or leave METEOR out.")
    said = {row: [" ".join(words)] for row, words in enumerate(captions)}
    right = {row: [" ".join(words) for words in ones] for row, ones in enumerate(references)}
    bleu, _ = Bleu(4).compute_score(right, said, verbose=0)
    scores = {f"bleu_{order}": float(value) for order, value in enumerate(bleu, 1)}
    scores["cider"] = float(Cider().compute_score(right, said)[0])
    scores["exact"] = sum(said[row][0] in right[row] for row in said) / max(1, len(said))
    if meteor:
        scores["meteor"] = _meteor(right, said)
    return scores


def _meteor(right, said):
    from pycocoevalcap.meteor.meteor import Meteor

    scorer = Meteor()
    try:
        return float(scorer.compute_score(right, said)[0])
    finally:
        for pipe in (scorer.meteor_p.stdin, scorer.meteor_p.stdout, scorer.meteor_p.stderr):
            pipe.close()
        scorer.meteor_p.kill()
        scorer.meteor_p.wait()
