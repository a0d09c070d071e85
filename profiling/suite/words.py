"""Words for signs and names: everyday ones and invented ones, all of them spelled letter by letter."""

from typing import Final

from profiling.suite.draws import Draws
from profiling.suite.vocabulary import is_spelled

SIGN_WORDS: Final = tuple(
    word
    for word in """
    bank bar barber beach bell bike bingo bistro boat book boots brick bus butter buy cabin cafe camera camp candle
    canal car card carpet cart cash cat chalk chef church cigar cinema circus city clinic closed cloth club coast
    coffee coin cook copper cotton court craft cream crown cup dairy dance danger deli dentist depot diner dock doctor
    dollar door dragon drink drive drum east empty engine enter exit express ferry field film fire flag flat
    floor flour flower fresh fruit fuel gallery game garage gas gate gift glass glove gold golf grill gym hall
    hammer hat help hill hobby hotel house ice info inn iron jacket jazz jewel juice jungle keep key kiosk kitchen
    knife lamp laser leaf lemon lens library light lobby lock lodge london lost lounge lucky lunch magic mail
    main map marble mayor meal meat medal melon menu metal metro middle mill mint mirror mobile model moon motel
    motor movie museum music neon new night north oasis ocean office oil old olive open opera orchid organ oxygen
    oyster palace panda paper paris park pasta patrol pay pedal pepper phone photo piano pilot pipe pizza planet
    plant plaza police pond pony pool port post potato power prince print prize public pub puppet quick quiet quilt
    rabbit radio rail ramp ranch rent repair rest ring road robot rocket roof room rose royal ruby rug sail salad
    sale salon salt sand sauna school seat secret sell seven shell ship shoe shop sign silk silver ski slow smart
    smoke snack soap soda sofa south spa speed spice sport spring stage stamp steak steam stone stop store street
    studio sugar suit summer sun super sushi swim table tailor tango taxi tea tennis tent ticket tiger tobacco toilet
    toll tool toy track trade train travel tree truck tulip tunnel turn ultra union vacant vapor velvet vet video
    view villa violin vinyl vision volt wagon wait walk wash water wax west wheel wild wine winter wood wool work
    yacht yard yield yoga young zebra zen zero zigzag zinc zone zoo
    """.split()  # noqa: SIM905
    if is_spelled(word) and 3 <= len(word) <= 6
)
_CONSONANTS = "bdfghjklmnprstvwz"
_VOWELS = "aeiou"
_LAST_CONSONANTS = "dklmnprstx"


def sign_word(draws: Draws) -> str:
    """Choose what a sign says: half of the time a word that nobody has seen."""
    while True:
        word = draws.one_of(SIGN_WORDS) if draws.chance(0.5) else invented_word(draws)
        if draws.allows(word):
            return word


def invented_word(draws: Draws) -> str:
    """Make up a word of four or five letters that can be said."""
    while True:
        word = "".join(draws.one_of(_CONSONANTS) + draws.one_of(_VOWELS) for _ in range(2))
        if draws.chance(0.5):
            word += draws.one_of(_LAST_CONSONANTS)
        if is_spelled(word):
            return word
