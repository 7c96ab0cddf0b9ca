"""Random sentences from a small grammar, with word lists chosen so that every English phone is common."""

import re

import numpy as np

from asr.errors import InputError

MAX_SENTENCES = 100_000
"""Far below the number of sentences of the grammar, so that new ones are found quickly."""

WORDS = {
    "name": """Adam Alice Arthur Beth Boyd Bruce Carla Chad Charlotte Cheryl Daisy Dorothy Edith Felix Floyd George
        Ginger Hugh Ida Jake Joyce Judith Julia Keith Kirk Leo Lewis Martha Maya Mitchell Nathan Oscar Owen Paul Penny
        Phoebe Quentin Rosa Ruth Sasha Seth Sheila Shirley Thelma Theo Toby Ursula Vera Victor Walter Yvonne Zach""",
    "noun": """actor architect baker beaver brother butcher captain cashier chef child clown cobbler cousin dancer
        daughter doctor donkey eagle engineer farmer father fisher fox giant girl goose guard horse hunter joiner
        judge juggler kitten lawyer leopard lizard mason mayor mother musician neighbor nurse otter owl painter parrot
        pilot plumber poet rabbit rooster sailor scholar shepherd singer soldier squirrel student surgeon tailor
        teacher tiger toddler trader turtle uncle usher visitor voyager waiter weaver witness wolf woodcutter worker
        youth zebra""",
    "thing": """anchor apple arrow badge bagel barrel basket bathtub beard bottle bowl box bridge brush bucket button
        cabbage cable camera candle carpet chain cheese cherry clock cloth coin collar cotton couch cradle crown
        cushion diamond drawer drum engine envelope feather fence flower fork garlic ginger glove guitar hammer
        hammock harness hatchet hood jar jewel jug kettle ladder lantern leather lemon lettuce machine marble medal
        melon mirror mitten mushroom necklace needle notebook nutmeg onion orchid oven oyster paddle pepper piano
        pillow pitcher potato puzzle ribbon rocket rope ruler saddle scarf sheet shovel siphon sketch spoon statue
        suitcase sword table thimble thread ticket tomato torch towel toy trophy trumpet tulip umbrella vase velvet
        violin wagon walnut watch wheel whistle yogurt zipper""",
    "plural": """apples badges bears berries birds boxes brushes buses cages cakes churches cities dishes dogs edges
        eggs flowers foxes garages hats horses houses judges keys kitchens ladders leaves lunches matches oranges
        pages paths peaches pebbles pigeons pouches prizes puddles roofs roses sandwiches shoes sponges teeth thieves
        towns treasures villages voices watches witches wolves yachts""",
    "place": """airport attic balcony barn basement bathroom beach cabin castle cave cellar church courtyard desert
        factory farm field forest fountain garage garden gulf harbor hill hospital hotel island jungle kitchen lake
        library market meadow mill mountain museum office orchard palace park path pavement pier playground porch
        quarry railway river road roof school shed shore square stable stadium station studio swamp temple theater
        tower tunnel valley village warehouse wharf wood workshop yard zoo""",
    "adjective": """ancient angry awful beaten bitter blue brave brown busy calm careful certain charming cheap clever
        cloudy cool crooked curious dark dear delicate dirty dull dusty eager early empty enormous faithful foggy
        foolish fresh full fuzzy gentle golden good greasy green happy harsh heavy honest huge humble icy jolly joyful
        lazy little loose loud lucky mellow modern muddy narrow nervous noisy odd orange oval pale peculiar plain
        pleasant polite poor proud pure purple quick quiet rare rotten rough royal ruby rusty sandy separate sharp
        shiny short shy silver sleepy smooth sour strange stubborn sturdy sure tasty thick thin thirsty thorny tidy
        tiny tired ugly unusual urban vague vast violet vivid warm weary wet whole wicked wild wooden worthy wrong
        yellow young youthful zealous""",
    "verb": """admired allowed ate bought broke brought built burned carried caught chose cleaned closed counted
        covered decorated discovered dragged drew dropped emptied enjoyed examined finished forgot found gathered gave
        guarded handed hid ignored imagined joined kept kicked left lifted liked lost loved measured mended moved
        needed noticed offered opened ordered painted picked pinched polished pulled pushed reached repaired rubbed
        saved shook shoved showed sketched snatched sold stole studied threw took touched treasured twisted used
        wanted washed watched weighed wrapped yanked""",
    "action": """admire arrange avoid borrow break bring build buy carry catch choose clean close count cover deliver
        describe destroy draw drop enjoy examine find finish forget gather guard hide hold ignore imagine join judge
        keep lift locate lose measure mend move notice offer open order paint pick polish pull push reach repair save
        sell shake share show steal study teach throw touch treasure use wash watch weigh wrap""",
    "moved": """crawled danced disappeared drove flew floated galloped hurried jogged journeyed jumped marched raced
        ran rode rolled rushed sailed skated slid strolled swam tiptoed traveled vanished walked wandered went yawned
        zoomed""",
    "adverb": """abruptly always badly boldly bravely calmly carefully cheerfully eagerly easily finally gently gladly
        gracefully hardly joyfully loudly merrily nearly never often openly patiently poorly proudly quickly quietly
        rarely roughly sadly seldom shyly silently slowly smoothly strangely suddenly surely usually warmly willingly
        wisely""",
    "preposition": """above across against along among around before behind below beneath beside between beyond by
        from in inside near of on opposite outside over past through toward under underneath with within""",
    "number": """two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen twenty thirty
        forty fifty""",
    "the": "the this that my your his her our their each one another",
    "many": "the these those my your his her our their some both several many",
    "time": """yesterday|today|at noon|at dawn|this morning|last night|on Thursday|on Wednesday|in July|in January
        |in August|every evening|after lunch|before supper|during winter|all summer|in autumn|once more|long ago
        |at midnight|after the storm|before sunrise|each spring|on Saturday""",
    "question": "when where why how",
}  # fmt: skip

PATTERNS = (
    "{the} {adjective} {noun} {verb} {the} {adjective} {thing} {time}",
    "{the} {noun} {adverb} {verb} {the} {thing} {preposition} the {place}",
    "{time} {name} {verb} {number} {plural} {preposition} the {place}",
    "{name} and {name} {moved} {adverb} {preposition} the {adjective} {place}",
    "{name} {verb} {many} {adjective} {plural} and {the} {adjective} {thing}",
    "a {adjective} {noun} {moved} {preposition} the {place} {time}",
    "please {action} {the} {thing} and {action} {the} {adjective} {thing}",
    "{question} did {name} {action} {the} {adjective} {thing} {time}?",
    "{name} couldn't {action} {the} {thing} {preposition} {the} {place}",
    "{the} {noun} wouldn't {action} {many} rotten {plural} {time}",
    "can {the} {noun} {action} {the} {thing} {preposition} {the} {place}?",
    "{name} could {action} {number} {adjective} {plural} but {the} {noun} {verb} them",
    "{number} {adjective} {plural} {moved} {preposition} the {place}, and {name} {verb} {the} {thing}",
    "we should {adverb} {action} {the} {thing}, or {name} would {action} it",
    "if you {action} {many} {plural}, {the} {noun} would {action} {the} {thing}",
    "{many} {plural} {preposition} the {place} looked {adjective} {time}",
    "they {verb} {the} {noun}, who {moved} {preposition} the {place}",
    "{the} {thing} {preposition} the {place} was {adjective} and {adjective}",
)

CHOICES = {
    slot: [" ".join(choice.split()) for choice in words.split("|")] if "|" in words else words.split()
    for slot, words in WORDS.items()
}
"""Slot of a pattern -> the words or phrases that may fill it."""


def make_sentences(count: int, seed: int) -> list[str]:
    """Make ``count`` different sentences. Each ends in "." or "?"; single spaces separate the words.

    Raises:
        InputError: ``count`` is above `MAX_SENTENCES`.
    """
    if count > MAX_SENTENCES:
        raise InputError(f"{count} utterances in total, expected at most {MAX_SENTENCES}")
    generator = np.random.default_rng([seed, 0])
    sentences: dict[str, None] = {}  # a dict keeps the order
    while len(sentences) < count:
        sentences[_draw_sentence(generator)] = None
    return list(sentences)


def _draw_sentence(generator: np.random.Generator) -> str:
    """Draw a pattern and fill each slot with a word from its list."""

    def fill(slot: re.Match[str]) -> str:
        choices = CHOICES[slot.group(1)]
        return choices[int(generator.integers(len(choices)))]

    pattern = PATTERNS[int(generator.integers(len(PATTERNS)))]
    text = re.sub(r"\ba (?=[aeiou]|hon)", "an ", re.sub(r"{(\w+)}", fill, pattern))
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")


def words_of(sentence: str) -> list[str]:
    """The words of a sentence in lower case, without punctuation."""
    return [word.strip(",.?").lower() for word in sentence.split(" ")]
