"""Which words become tags: slang and filing words are stopped, synonyms merged, rare tags dropped.

A tag that cannot be seen in the picture teaches nothing and only looks like a mistake on the page.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

# General tags need this many pictures and this many subjects, or the tagger would learn single drawings by heart.
GENERAL_PICTURES, GENERAL_SUBJECTS = 20, 6
CHARACTER_PICTURES = 8
OTHER_PICTURES = 20

# Slang, moods of the writer, filing words of the packages, and words that say nothing of what is seen.
STOPPED = """
143 ily bae xoxo omg lol lmao rofl smh bff bestie bro babe yolo whatever feels you me wow oh what meh dunno know
adorbs awesome cool nice good bad great done over here again no not yes stop right left up down open closed full big
small large heavy medium light bright fast quick slow hot cold old new young high low deep one two three four five
six seven eight nine ten zero 10 11 12 30 thirty o'clock o’clock hold point direction facing type sign mark button
symbol symbols signs_and_symbols icon icons unsorted miscellany misc theme special computer_icons hash magick
geometry menu card_menu webpage appicon openclipart inkscape clip_art clipart creation sudden shot hole destroy
simple white_menu idea ideas activity activities equipment recreation study work thought mapsym map_symbol
united_nations_member organizations historic country region subnational north_america south_america latin_america
northamerica latinamerica usholiday religholiday musicsym musicstuff weathersym roadtravel airtravel go place rating
back front double symbol_other together nature funny haha hmm emotion dating date flirt romance secret quiet
disbelief shock shocked disappointed frustrated unhappy upset excited nervous anxious annoyed bored awkward hungry
sarcasm sarcastic doubt relax win lose superpower tale fairy_tale fairytale folklore myth creature evil scary pick
throw catch move cut flip shake slide drive drop kick build beg ask out workout amble gait hike pace stride stroll
hurry marathon rush speed kneel knees probing manual motorized accessibility play playing race life death dead
health business comic communication entertainment travel shopping style fancy rich sorry heat headache peace justice
law ideograph sos index backhand fingers crossed oncoming input charge bill cash email cell mobile day week month
year morning anniversary newborn adult lady men women children hands body head skin tone beauty spa hear facial
colour color colors outlined red green blue yellow purple black white brown pink grey gray silver dark pale europe
africa asia america oceania australia caribbean micronesia polynesia france spain italy germany denmark belgium
norway finland canada united_states unitedstates united_kingdom states brazil arab usa england britain horoscope
astrology balance scales friends twins kisses protein carbohydrate container human cartoon character logo logos
bodypart security festive boom talk shade line basic set element image graphic drawing picture object objects thing
things other extras extra lined outline filled fill action gesture fail fun happiness sadness feeling feelings
lovely pretty beautiful ugly horrible terrible gross eww yuck yikes ugh facepalm hello hi bye goodbye hey thanks
thank please okay luck lucky yeah yay woo hooray cheers congrats congratulations lit literally obsessed mood vibe
vibes chill dope epic legend boss slay raised fly clean electric finger bar movie navy covid_19 coronavirus
pedestrian queer geography pet traffic architetto_francesco_rollandin emergency education japanese transportation
holiday video sound bow household fairy suit eye eyes mouth doctor breakfast alarm farm park time technology
crescent glass zoo garbage round crazy vertical print slice french
science film lab school
"""
STOP = frozenset(STOPPED.split())

# Words that mean one thing get one name.
SAME = {
    "animals": "animal",
    "world": "globe",
    "earth": "globe",
    "caution": "warning",
    "decorations": "decoration",
    "party": "celebration",
    "office": "office_supplies",
    "smiling": "smile",
    "smiley": "face",
    "happy": "smile",
    "grin": "smile",
    "grinning": "smile",
    "smilies": "face",
    "tongue": "tongue_out",
    "frowning": "frown",
    "mad": "angry",
    "anger": "angry",
    "cry": "crying",
    "tear": "tears",
    "surprise": "surprised",
    "kissing": "kiss",
    "laugh": "laughing",
    "joy": "laughing",
    "hearts": "heart",
    "love": "heart_theme",
    "stars": "star",
    "clouds": "cloud",
    "arrows": "arrow",
    "arrowshape": "arrow",
    "flags": "flag",
    "birds": "bird",
    "ornithology": "bird",
    "bugs": "insect",
    "bug": "insect",
    "mammals": "mammal",
    "dogs": "dog",
    "puppy": "dog",
    "housecats": "cat",
    "feline": "cat",
    "kitten": "cat",
    "horses": "horse",
    "bears": "bear",
    "dinosaurs": "dinosaur",
    "fishes": "fish",
    "plants": "plant",
    "trees": "tree",
    "flowers": "flower",
    "fruits": "fruit",
    "vegetables": "vegetable",
    "vegitable": "vegetable",
    "desserts": "dessert",
    "sweet": "dessert",
    "icecream": "ice_cream",
    "beverage": "drink",
    "beverages": "drink",
    "booze": "alcohol",
    "drinks": "drink",
    "drinking": "drink",
    "breads_and_carbs": "bread",
    "meats_and_eggs": "meat",
    "restaurant": "food",
    "buildings": "building",
    "homes": "house",
    "home": "house",
    "vehicles": "vehicle",
    "automobile": "car",
    "transport": "transportation",
    "boating": "boat",
    "sailing": "boat",
    "ship": "boat",
    "bike": "bicycle",
    "cycle": "bicycle",
    "cyclist": "bicycle",
    "biking": "bicycle",
    "bicyclist": "bicycle",
    "plane": "airplane",
    "aeroplane": "airplane",
    "tools": "tool",
    "weapons": "weapon",
    "toys": "toy",
    "books": "book",
    "telephone": "phone",
    "clothes": "clothing",
    "shoes": "shoe",
    "hats": "hat",
    "sports": "sport",
    "games": "game",
    "cards": "playing_card",
    "card": "playing_card",
    "instrument": "musical_instrument",
    "note": "musical_note",
    "xmas": "christmas",
    "valentine": "valentines_day",
    "valentines": "valentines_day",
    "celebrate": "celebration",
    "astronomy": "space",
    "people": "person",
    "man": "person",
    "woman": "person",
    "boy": "child",
    "girl": "child",
    "roadsigns": "roadsign",
    "road_sign": "roadsign",
    "clocks": "clock",
    "wheelchair": "wheelchair",
    "prohibited": "prohibition",
    "forbidden": "prohibition",
    "ocean": "sea",
    "callouts": "callout",
    "jewellery": "jewelry",
    "gun": "gun",
    "guns": "gun",
    "stickmen": "stick_figure",
    "cellphone": "phone",
    "banknote": "money",
    "dollar": "money",
    "currency": "money",
    "bank": "money",
    "cyclone": "spiral",
    "run": "running",
    "walk": "walking",
    "swim": "swimming",
    "dance": "dancing",
    "dancer": "dancing",
    "pointing": "pointing",
    "swimmer": "swimming",
    "surf": "surfing",
    "surfer": "surfing",
    "climb": "climbing",
    "kneeling": "kneeling",
    "ski": "skiing",
    "lightning": "lightning_bolt",
    "moustache": "mustache",
    "teeth": "teeth",
    "tux": "penguin",
    "geometric": "shape",
    "shapes": "shape",
    "signalflag": "signal_flag",
    "bulb": "light_bulb",
    "lightbulb": "light_bulb",
    "mapsymbol": "map",
    "letters": "letter",
    "alphabet": "letter",
    "digit": "number",
    "numbers": "number",
    "explode": "explosion",
    "gunshot": "bullet_hole",
    "bullet": "bullet_hole",
    "bullethole": "bullet_hole",
}


def general_tag(word: str) -> str | None:
    """A package's keyword as our tag, or None for one that is stopped."""
    name = re.sub(r"[\s\-]+", "_", word.strip().lower().replace("“", "").replace("”", "")).strip("_.")
    name = SAME.get(name, name)
    if name in STOP or len(name) < 3 or not re.fullmatch(r"[a-z0-9_']+", name) or name[0].isdigit():
        return None
    return name


def general_tags(words: Iterable[str]) -> list[str]:
    """Keywords as tags, in order, without repeats."""
    return list(dict.fromkeys(tag for word in words if (tag := general_tag(word))))


def choose(rows: Iterable[Mapping[str, object]], categories: Iterable[str]) -> dict[str, dict[str, int]]:
    """The tags with enough pictures among `rows` (the training part), with their counts, by category."""
    chosen = {}
    rows = list(rows)
    for category in categories:
        pictures: Counter[str] = Counter()
        subjects: defaultdict[str, set[str]] = defaultdict(set)
        for row in rows:
            for tag in row[f"tags_{category}"]:
                pictures[tag] += 1
                subjects[tag].add(row["group"])
        chosen[category] = {
            tag: count for tag, count in sorted(pictures.items()) if _enough(category, count, len(subjects[tag]))
        }
    return _one_category_each(chosen)


def _enough(category: str, pictures: int, subjects: int) -> bool:
    if category == "general":
        return pictures >= GENERAL_PICTURES and subjects >= GENERAL_SUBJECTS
    return pictures >= (CHARACTER_PICTURES if category == "character" else OTHER_PICTURES)


def _one_category_each(chosen: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """A name stands for one tag: the category where it is commonest keeps it."""
    best: dict[str, tuple[int, str]] = {}
    for category, tags in chosen.items():
        for tag, count in tags.items():
            best[tag] = max(best.get(tag, (0, "")), (count, category))
    return {
        category: {tag: count for tag, count in tags.items() if best[tag][1] == category}
        for category, tags in chosen.items()
    }
