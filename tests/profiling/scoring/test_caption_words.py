import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.scoring.caption_words import caption_words

# What the tokenizer of the published scorer gives, Stanford CoreNLP 3.4.1's PTBTokenizer with -preserveLines and
# -lowerCase, without the tokens of the published list of punctuation.
PUBLISHED = [
    ("A man is riding a horse.", "a man is riding a horse"),
    ("Two dogs, one cat; a bird: all asleep!", "two dogs one cat a bird all asleep"),
    ("A woman's hat isn't on the man's head.", "a woman 's hat is n't on the man 's head"),
    ("The boys' bikes are parked.", "the boys bikes are parked"),
    ("I can't see what they're doing, we've gone.", "i ca n't see what they 're doing we 've gone"),
    ("He's got it; she'd go; I'm in; you'll see; don't", "he 's got it she 'd go i 'm in you 'll see do n't"),
    ("could've should've who's let's", "could 've should 've who 's let 's"),
    ("ain't isn't won't shan't", "ai n't is n't wo n't sha n't"),
    ("It's a dog's life and 'tis fun", "it 's a dog 's life and 't is fun"),
    ("He cannot go; gonna eat, wanna sleep, gimme that.", "he can not go gon na eat wan na sleep gim me that"),
    ('A sign that says "STOP" on a pole.', "a sign that says stop on a pole"),
    ("A sign that says 'no parking' here.", "a sign that says no parking here"),
    ('The sign says "Don\'t Walk".', "the sign says do n't walk"),
    (
        "A red (and white) bus [parked] {outside}.",
        "a red -lrb- and white -rrb- bus -lsb- parked -rsb- -lcb- outside -rcb-",
    ),
    ("a cat(s)", "a cat -lrb- s -rrb-"),
    ("A black-and-white photo of a T-shirt.", "a black-and-white photo of a t-shirt"),
    ("A 3-year-old boy, 20-30 people", "a 3-year-old boy 20-30 people"),
    ("cat/dog on/off black/white", "cat/dog on/off black/white"),
    ("The clock reads 10:30 a.m. on the tower", "the clock reads 10:30 a.m. on the tower"),
    ("Mr. Smith sits at 5th Ave. in the U.S.", "mr. smith sits at 5th ave. in the u.s."),
    ("A.M. radio in Washington, D.C.", "a.m. radio in washington d.c."),
    ("train #42 is a No. 7", "train # 42 is a no. 7"),
    ("No. No.", "no no"),
    ("A bus costs $2.50 and 50% off", "a bus costs $ 2.50 and 50 % off"),
    ("An airplane w/ 1,000 people.", "an airplane w / 1,000 people"),
    ("Cake, 1/2 eaten, 3 1/2 inches", "cake 1/2 eaten 3 1/2 inches"),
    (".5 miles -5 degrees +3", ".5 miles -5 degrees +3"),
    ("10 x 12 and 10x12", "10 x 12 and 10x12"),
    ("an A's fan 'cause", "an a 's fan 'cause"),
    ("the 1980's car and '90s bike", "the 1980 's car and '90s bike"),
    ("O'Brien and O'Hare at five o'clock", "o'brien and o'hare at five o'clock"),
    ("his 'n' hers", "his 'n' hers"),
    ("Salt & pepper / sugar on a plate", "salt & pepper / sugar on a plate"),
    ("A man... jumps -- quickly - over it", "a man jumps quickly over it"),
    ("wait....what", "wait what"),
    ("Is that a cat? Yes! No?!", "is that a cat yes no ?!"),
    ("!!!! wow!!", "!!!! wow !!"),
    ("Two men are playing Wii.Another watches.", "two men are playing wii.another watches"),
    ("A half eaten sandwich,on a plate", "a half eaten sandwich on a plate"),
    ("a girl w a #1 shirt & @ home", "a girl w a # 1 shirt & @ home"),
    ("a cat\u2019s tail \u201cquoted\u201d and \u2014 dash \u2013 en", "a cat 's tail quoted and dash en"),
    ("a caf\u00e9 with cr\u00e8me br\u00fbl\u00e9e", "a caf\u00e9 with cr\u00e8me br\u00fbl\u00e9e"),
    ("hot-dog- a -hot", "hot-dog a hot"),
    ("A dog ;sitting", "a dog sitting"),
]

# Where the rules here are simpler: what that tokenizer gives, and what we give.
DIFFERENT = [
    ("email me at a@b.com", "email me at a@b.com", "email me at a @ b.com"),
    ("AT&T store", "at&t store", "at & t store"),
    ("rock'n'roll", "rock 'n' roll", "rock'n'roll"),
    ("y'all", "y' all", "y'all"),
    ("a plan b. is good", "a plan b. is good", "a plan b is good"),
]


@pytest.mark.parametrize(("caption", "words"), PUBLISHED)
def test_words_are_those_of_the_published_tokenizer(caption: str, words: str) -> None:
    assert " ".join(caption_words(caption)) == words


@pytest.mark.parametrize(("caption", "published", "ours"), DIFFERENT)
def test_rare_spellings_are_split_more_simply(caption: str, published: str, ours: str) -> None:
    assert " ".join(caption_words(caption)) == ours != published


@pytest.mark.parametrize(
    "mark", ["'", '"', "''", "``", "`", ".", "?", "!", ",", ":", "-", "--", "---", "...", "....", ";"]
)
def test_punctuation_is_no_word(mark: str) -> None:
    assert caption_words(f"a cat {mark} a dog") == ["a", "cat", "a", "dog"]


def test_brackets_are_words() -> None:
    # The published list has them in capitals and is asked after everything was put in lower case.
    assert caption_words("(a) [b] {c}") == ["-lrb-", "a", "-rrb-", "-lsb-", "b", "-rsb-", "-lcb-", "c", "-rcb-"]


@settings(deadline=None)
@given(st.text(alphabet="aB' .,-1/\n!(é\u2019", max_size=30))
def test_no_letter_or_digit_is_lost_and_case_and_spaces_do_not_count(caption: str) -> None:
    words = caption_words(caption)
    kept = "".join(words).replace("-lrb-", "")
    assert [c for c in kept if c.isalnum()] == [c for c in caption.lower() if c.isalnum()]
    assert words == caption_words(caption.upper()) == caption_words(f"  {caption}\n")
    assert all(word and not set(word) & set(" \n") for word in words)


def test_nothing_has_no_words() -> None:
    assert caption_words("") == caption_words(" \n") == caption_words("...") == []


def test_long_captions_take_no_long_time() -> None:
    # A pattern that tried every way to cut a word in parts would not come back.
    assert len(caption_words("1" + "a" * 5000 + " " + "b-" * 2000 + "'" * 2000)) == 2
