"""The recurring characters of comicgen: a pose and a face, laid over each other."""

import random
from collections.abc import Iterator
from pathlib import Path

from training.starter.drawings import Drawing

SOURCE = "https://github.com/gramener/comicgen"
RAMYA = "Ramya Mylavarapu"
# Those whose drawings their authors gave away as CC0 (README of the package). Real people are left out.
ARTISTS = {
    "aryan": "Swetha Mylavarapu",
    "ava": RAMYA,
    "bean": RAMYA,
    "bill": "Renel McCullum",
    "dee": RAMYA,
    "dey": RAMYA,
    "ethan": "Devarani B",
    "evan": RAMYA,
    "priya": RAMYA,
    "ringo": RAMYA,
    "sophie": "Shawf Designs",
}
LINE_DRAWN = {"dee", "dey", "priya", "ringo", "bean"}
PER_CHARACTER = 184
ANGLES = {"side": ["from_side"], "back": ["from_behind"], "sitting": ["sitting"]}
FACES = {
    "smile": ["smile"],
    "happy": ["smile"],
    "laugh": ["smile", "laughing", "open_mouth"],
    "rofl": ["smile", "laughing", "open_mouth"],
    "yuhoo": ["smile", "open_mouth"],
    "excited": ["smile", "open_mouth"],
    "wink": ["wink", "one_eye_closed"],
    "shout": ["open_mouth", "shouting"],
    "angry": ["angry"],
    "irritated": ["angry"],
    "annoyed": ["angry"],
    "sad": ["sad", "frown"],
    "cry": ["crying", "tears", "sad"],
    "cryingloudly": ["crying", "tears", "sad", "open_mouth"],
    "loudcry": ["crying", "tears", "sad", "open_mouth"],
    "shocked": ["surprised", "open_mouth"],
    "surprised": ["surprised", "open_mouth"],
    "ooh": ["surprised", "open_mouth"],
    "worried": ["worried"],
    "afraid": ["scared"],
    "tired": ["tired"],
    "dozing": ["closed_eyes", "sleepy"],
    "sleep": ["closed_eyes", "sleepy"],
    "smirk": ["smirk"],
    "blush": ["blush"],
    "confused": ["confused"],
    "rollingeyes": ["rolling_eyes"],
    "lookingdown": ["looking_down"],
    "lookingup": ["looking_up"],
}
POSES = {  # a part of the pose's name -> tags
    "laptop": ["laptop", "holding"],
    "book": ["book", "holding", "reading"],
    "readingpaper": ["newspaper", "holding", "reading"],
    "coffee": ["cup", "holding"],
    "mobile": ["phone", "holding"],
    "umbrella": ["umbrella", "holding"],
    "holdingboard": ["sign", "holding"],
    "stick": ["stick", "holding"],
    "pointing": ["pointing"],
    "thumbsup": ["thumbs_up"],
    "handsfolded": ["crossed_arms"],
    "handsonhip": ["hands_on_hips"],
    "pocket": ["hands_in_pockets"],
    "heldback": ["arms_behind_back"],
    "shrug": ["shrugging"],
    "thinking": ["thinking", "hand_on_own_chin"],
    "super": ["superhero", "cape"],
    "yuhoo": ["arms_up"],
    "desk": ["desk", "sitting"],
    "beanbag": ["bean_bag_chair", "sitting"],
    "floor": ["sitting", "on_floor"],
    "ridingbike": ["riding", "motorcycle", "vehicle"],
    "ridingbicycle": ["riding", "bicycle", "vehicle"],
    "ridingcar": ["riding", "car", "vehicle"],
    "run": ["running"],
}


def drawings(folder: Path, seed: int = 0) -> Iterator[Drawing]:
    """Poses and faces of every character, a fixed choice of their combinations; a subject is one combination."""
    for name, artist in ARTISTS.items():
        home = folder / "svg" / name
        pose_first = _pose_is_below(home, folder)
        pairs = [(angle, pose, face) for angle in _angles(home) for pose, face in _pairs(angle)]
        random.Random(f"{seed} {name}").shuffle(pairs)
        for angle, pose, face in pairs[:PER_CHARACTER]:
            layers = (pose, face) if pose_first else (face, pose)
            turned = angle.name if angle != home else "straight"
            yield Drawing(
                layers=tuple(file.read_text("utf-8") for file in layers),
                tags=_tags(name, artist, turned, pose.stem, face.stem),
                group=f"comic {name} {turned} {pose.stem} {face.stem}",
                family="comicgen",
                source=SOURCE,
                artist=artist,
                licence="CC0 1.0",
            )


def _tags(name: str, artist: str, turned: str, pose: str, face: str) -> dict[str, list[str]]:
    posed = [tag for part, tags in POSES.items() if part in pose for tag in tags]
    general = ["person", *ANGLES.get(turned, []), *([] if turned == "back" else FACES.get(face, [])), *posed]
    return {
        "general": general,
        "character": [f"{name}_(comicgen)"],
        "artist": [artist.lower().replace(" ", "_")],
        "copyright": ["comicgen"],
        "meta": ["comic", *(["line_art", "monochrome"] if name in LINE_DRAWN else ["flat_color"])],
    }


def _angles(home: Path) -> list[Path]:
    inside = sorted(path for path in home.iterdir() if (path / "pose").is_dir())
    return inside or [home]


def _pairs(angle: Path) -> list[tuple[Path, Path]]:
    return [(pose, face) for pose in sorted(angle.glob("pose/*.svg")) for face in sorted(angle.glob("emotion/*.svg"))]


def _pose_is_below(home: Path, folder: Path) -> bool:
    """The order of the layers, as the character's template (or the one it imports) has it."""
    template = (home / "index.svg").read_text("utf-8")
    if "<?import" in template:
        template = (home / template.split('"')[1]).read_text("utf-8")
    return template.index("#pose") < template.index("#emotion")
