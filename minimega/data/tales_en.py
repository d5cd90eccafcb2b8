"""The English tales: who finds what, where, gives it to whom, and what comes of it."""

from minimega.data.grammar import Grammar

WOMEN = "Anna|Amina|Clara|Greta|Ida|Julia|Mei|Nora|Olga|Priya|Rosa|Vera"
MEN = "Adam|Boris|David|Felix|Hugo|Jonas|Kofi|Leo|Omar|Peter|Ravi|Simon"
# How grammar.py reads a rule is said there.
GRAMMAR = {
    "tale": "{opening} {finder=person} {finding} a {look=look} {thing=$look} {where=where} the {spot=$where}."
    " {turn} {giving} {thanks} {ending}",
    "person": WOMEN + "|" + MEN,
    "opening": "Once, on a {sky} {hour},|Long ago, in the {season},|One {sky} {hour},"
    "|Many {season}s ago,|When the {bird} sang,",
    "sky": "windy|misty|rainy|frosty|sunny|stormy",
    "hour": "morning|afternoon|evening|night",
    "season": "spring|summer|autumn|winter",
    "bird": "lark|owl|robin|raven",
    "finding": "found|noticed|discovered|spotted|saw",
    "look": "silver|golden|rusty|wooden|tiny|broken|painted|shining|strange|dusty",
    "silver": "key|ring|bell|spoon|coin",
    "golden": "ring|coin|crown|feather|bell",
    "rusty": "key|sword|lantern|bell",
    "wooden": "flute|spoon|horse|box|drum",
    "tiny": "bell|box|mirror|flute|horse|book",
    "broken": "mirror|sword|lantern|drum|flute",
    "painted": "horse|box|drum|spoon|mirror",
    "shining": "sword|coin|crown|mirror|lantern",
    "strange": "map|book|feather|key|drum",
    "dusty": "book|map|lantern|crown",
    "where": "under|behind|beside|near|in",
    "under": "bridge|oak|bench|stairs",
    "behind": "mill|church|stable|tower|fountain",
    "beside": "river|well|road|pond",
    "near": "harbour|castle|market|waterfall",
    "in": "garden|forest|meadow|cave|barn",
    "turn": "It {lay} there all alone.|Nobody told {finder} whose it was.|{finder} {smiled} and took it."
    "|No {neighbour} of {finder} missed it.",
    "lay": "lay|slept|waited",
    "smiled": "smiled|laughed|wondered|whistled",
    "neighbour": "neighbour|friend|cousin|teacher",
    "giving": "Then {finder} {brought} it to {receiver=person}, the {trade=trade}."
    "|At {noon} {she:finder} gave it to {receiver=person}, the {trade=trade}."
    "|Soon {receiver=person}, the {trade=trade}, was given the {thing}.",
    "brought": "brought|carried|offered",
    "noon": "noon|dusk|dawn|midnight",
    "trade": "baker|fisher|farmer|tailor|gardener|potter|miller|weaver|carpenter|cook|shepherd|painter",
    "baker": "warm loaf",
    "fisher": "fresh trout",
    "farmer": "sweet apple",
    "tailor": "woollen coat",
    "gardener": "white rose",
    "potter": "blue bowl",
    "miller": "big cake",
    "weaver": "soft blanket",
    "carpenter": "good chair",
    "cook": "hot soup",
    "shepherd": "grey lamb",
    "painter": "lovely picture",
    "thanks": "The {trade} thanked {finder} with a {gift=$trade}."
    "|{receiver} was {glad} and gave {finder} a {gift=$trade}."
    "|Gladly the {trade} gave {her:finder} a {gift=$trade}.",
    "glad": "glad|happy|proud|amazed",
    "ending": "Years later, {receiver} still {told} how {finder} had found"
    " the {look} {thing} {where} the {spot}."
    "|Who found the {thing}? {finder} did. Who keeps it now? {receiver} does."
    "|Now {receiver} keeps the {look} {thing}, and {finder} often {dreams} of the {gift}."
    "|Children ask who gave {receiver} the {thing}. It was {finder}, who found it {where} the {spot}."
    "|So {finder} and {receiver} became {friends}, thanks to a {look} {thing} {where} the {spot}.",
    "told": "told|wrote|sang|recalled",
    "dreams": "dreams|thinks|talks",
    "friends": "friends|partners|allies",
}

ENGLISH = Grammar("tales", GRAMMAR, {"she": ("she", "he"), "her": ("her", "him")}, men=MEN.split("|"))
