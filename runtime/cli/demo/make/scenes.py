"""Drawn scenes with questions and answers: the base skill of the demo model.

Three families. *Shapes*: one to nine coloured shapes of one kind on a plain ground, asked for
kind, colour, number and place. *Strokes*: one or two pale strokes on a dark ground, asked for
kind and place. *Letters*: a letter in pale pen strokes, pulled out of shape. Most strokes and letters
are drawn on a coarse grid and enlarged. No scene contains a digit.
"""

import numpy as np
from PIL import Image, ImageDraw

SIZE = 64
FINE = 3  # drawn this much larger, then reduced, for smooth edges

COLOURS = {
    "red": (214, 40, 40), "green": (46, 160, 67), "blue": (38, 84, 200), "yellow": (240, 210, 40),
    "purple": (130, 50, 170), "orange": (240, 130, 30), "white": (245, 245, 245), "black": (20, 20, 20),
}
SHAPES = ["circle", "square", "triangle", "cross", "ring", "bar"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
STROKES = ["vertical line", "horizontal line", "rising line", "falling line", "arc open to the left",
           "arc open to the right", "arc open to the top", "arc open to the bottom", "loop", "corner"]


def place_name(x, y):
    """The ninth of the picture that a point (0..1) lies in, in words."""
    row = ("top", "", "bottom")[min(2, int(y * 3))]
    column = ("left", "", "right")[min(2, int(x * 3))]
    return " ".join(w for w in (row, column) if w) or "center"


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def draw_shape(draw, kind, x, y, r, colour):
    box = [x - r, y - r, x + r, y + r]
    if kind == "circle":
        draw.ellipse(box, fill=colour)
    elif kind == "square":
        draw.rectangle(box, fill=colour)
    elif kind == "triangle":
        draw.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=colour)
    elif kind == "cross":
        t = r / 3
        draw.rectangle([x - t, y - r, x + t, y + r], fill=colour)
        draw.rectangle([x - r, y - t, x + r, y + t], fill=colour)
    elif kind == "ring":
        draw.ellipse(box, outline=colour, width=max(2, int(r / 2.5)))
    elif kind == "bar":
        draw.rectangle([x - r, y - r / 3, x + r, y + r / 3], fill=colour)


def shapes_scene(rng):
    kind, count = SHAPES[rng.integers(len(SHAPES))], int(rng.integers(1, 10))
    ground, colour = (str(c) for c in rng.choice(list(COLOURS), 2, replace=False))
    shade = lambda c: tuple(int(np.clip(v + rng.integers(-14, 15), 0, 255)) for v in COLOURS[c])
    side = SIZE * FINE
    picture = Image.new("RGB", (side, side), shade(ground))
    draw = ImageDraw.Draw(picture)
    cells = rng.permutation(9)[:count]
    spots = []
    for cell in cells:
        x = (cell % 3 + 0.5 + rng.uniform(-0.12, 0.12)) / 3
        y = (cell // 3 + 0.5 + rng.uniform(-0.12, 0.12)) / 3
        spots.append((x, y))
        draw_shape(draw, kind, x * side, y * side, side * rng.uniform(0.09, 0.14), shade(colour))
    plural = kind + ("es" if kind == "cross" else "s")
    thing = f"{article(colour)} {kind}" if count == 1 else f"{NUMBERS[count]} {colour} {plural}"
    verb = "is" if count == 1 else "are"
    other = SHAPES[(SHAPES.index(kind) + rng.integers(1, len(SHAPES))) % len(SHAPES)]
    asked = [
        ("What is in this image?", thing),
        ("What shape is shown?", article(kind) if count == 1 else plural),
        (f"What colour {verb} the {kind if count == 1 else plural}?", colour),
        ("What colour is the background?", ground),
        ("How many shapes are there?", NUMBERS[count]),
        ("Which number of shapes do you see?", NUMBERS[count]),
        (f"How many {other}{'es' if other == 'cross' else 's'} are there?", NUMBERS[0]),
    ]
    if count == 1:
        where = place_name(*spots[0])
        asked += [(f"Where is the {kind}?", where), ("Describe the image.", f"There is {thing} at the {where}.")]
    else:
        asked += [("Describe the image.", f"There are {thing}.")]
    return picture.resize((SIZE, SIZE), Image.LANCZOS), asked


def stroke_points(kind, x, y, r, rng):
    angle = np.linspace(0, np.pi, 13)
    jitter = rng.uniform(-0.25, 0.25)
    if kind == "vertical line":
        return [(x - r * jitter, y - r), (x + r * jitter, y + r)]
    if kind == "horizontal line":
        return [(x - r, y - r * jitter), (x + r, y + r * jitter)]
    if kind == "rising line":
        return [(x - r * 0.8, y + r), (x + r * 0.8, y - r)]
    if kind == "falling line":
        return [(x - r * 0.8, y - r), (x + r * 0.8, y + r)]
    if kind == "loop":
        turn = np.linspace(0, 2 * np.pi, 25)
        return [(x + r * rng.uniform(0.98, 1.02) * np.cos(a), y + r * np.sin(a)) for a in turn]
    if kind == "corner":
        return [(x - r, y - r), (x + r, y - r + r * jitter), (x + r * jitter, y + r)]
    turn = {"left": -np.pi / 2, "right": np.pi / 2, "top": 0.0, "bottom": np.pi}[kind.split()[-1]]
    return [(x + r * np.cos(a + turn), y + r * np.sin(a + turn)) for a in angle]


def strokes_scene(rng):
    count = int(rng.integers(1, 3))
    coarse = rng.random() < 0.7
    grid = int(rng.choice([8, 8, 12, 16])) if coarse else SIZE
    side = SIZE * FINE
    picture = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(picture)
    kinds, spots = [], []
    upright = rng.random() < 0.6  # two strokes: one above the other, or side by side
    for i in range(count):
        if count == 1:
            x, y, r = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(0.16, 0.38)
        else:
            along = (0.28, 0.72)[i] + rng.uniform(-0.05, 0.05)
            across = rng.uniform(0.4, 0.6)
            x, y = (across, along) if upright else (along, across)
            r = rng.uniform(0.14, 0.25)
        kind = STROKES[rng.integers(len(STROKES))]
        points = [(a * side, b * side) for a, b in stroke_points(kind, x, y, r, rng)]
        width = int(side * rng.uniform(0.07, 0.19))
        draw.line(points, fill=int(rng.integers(170, 256)), width=width, joint="curve")
        for a, b in (points[0], points[-1]):
            draw.ellipse([a - width / 2, b - width / 2, a + width / 2, b + width / 2], fill=220)
        kinds.append(kind)
        spots.append((x, y))
    if coarse:
        picture = picture.resize((grid, grid), Image.BOX).resize((SIZE, SIZE), Image.BICUBIC)
    else:
        picture = picture.resize((SIZE, SIZE), Image.LANCZOS)
    both = " and ".join(article(k) for k in kinds)
    asked = [
        ("What is in this image?", both),
        ("Which strokes are drawn?", both),
        ("How many strokes are there?", NUMBERS[count]),
        ("Describe the image.", f"There is {both}."),
    ]
    if count == 1:
        asked += [(f"Where is the {kinds[0]}?", place_name(*spots[0]))]
    elif upright:
        asked += [("What is at the top?", article(kinds[0])), ("What is at the bottom?", article(kinds[1]))]
    else:
        asked += [("What is on the left?", article(kinds[0])), ("What is on the right?", article(kinds[1]))]
    return picture.convert("RGB"), asked


def bow(x, y, rx, ry, start, end):
    """Part of an ellipse from angle `start` to `end`, in degrees, clockwise from the right."""
    angle = np.radians(np.linspace(start, end, 14))
    return [(x + rx * np.cos(a), y + ry * np.sin(a)) for a in angle]


# Letters as pen strokes in the unit square, y down.
LETTERS = {
    "capital A": [[(0, 1), (0.5, 0), (1, 1)], [(0.2, 0.6), (0.8, 0.6)]],
    "capital B": [[(0, 0), (0, 1)], [(0, 0)] + bow(0.4, 0.25, 0.5, 0.25, -90, 90) + bow(0.4, 0.75, 0.6, 0.25, -90, 90) + [(0, 1)]],
    "capital C": [bow(0.55, 0.5, 0.5, 0.5, -50, -310)],
    "capital D": [[(0, 0), (0, 1)], [(0, 0)] + bow(0.3, 0.5, 0.7, 0.5, -90, 90) + [(0, 1)]],
    "capital E": [[(1, 0), (0, 0), (0, 1), (1, 1)], [(0, 0.5), (0.8, 0.5)]],
    "capital F": [[(1, 0), (0, 0), (0, 1)], [(0, 0.5), (0.8, 0.5)]],
    "capital G": [bow(0.55, 0.5, 0.5, 0.5, -50, -360) + [(0.6, 0.5)]],
    "capital H": [[(0, 0), (0, 1)], [(1, 0), (1, 1)], [(0, 0.5), (1, 0.5)]],
    "capital I": [[(0.5, 0), (0.5, 1)]],
    "capital J": [[(0.8, 0)] + bow(0.4, 0.7, 0.4, 0.3, 0, 170)],
    "capital K": [[(0, 0), (0, 1)], [(0.9, 0), (0.05, 0.55), (1, 1)]],
    "capital L": [[(0.1, 0), (0.1, 1), (1, 1)]],
    "capital M": [[(0, 1), (0, 0), (0.5, 0.6), (1, 0), (1, 1)]],
    "capital N": [[(0, 1), (0, 0), (1, 1), (1, 0)]],
    "capital O": [bow(0.5, 0.5, 0.45, 0.5, 0, 360)],
    "capital P": [[(0, 1), (0, 0)] + bow(0.4, 0.27, 0.6, 0.27, -90, 90) + [(0, 0.54)]],
    "capital Q": [bow(0.5, 0.5, 0.5, 0.5, 0, 360), [(0.6, 0.65), (1, 1)]],
    "capital R": [[(0, 1), (0, 0)] + bow(0.4, 0.27, 0.6, 0.27, -90, 90) + [(0, 0.54), (1, 1)]],
    "capital S": [bow(0.5, 0.26, 0.42, 0.26, -30, -260) + bow(0.5, 0.76, 0.45, 0.25, -80, 150)],
    "capital T": [[(0, 0), (1, 0)], [(0.5, 0), (0.5, 1)]],
    "capital U": [[(0, 0)] + bow(0.5, 0.6, 0.5, 0.4, 180, 0) + [(1, 0)]],
    "capital V": [[(0, 0), (0.5, 1), (1, 0)]],
    "capital W": [[(0, 0), (0.25, 1), (0.5, 0.3), (0.75, 1), (1, 0)]],
    "capital X": [[(0, 0), (1, 1)], [(1, 0), (0, 1)]],
    "capital Y": [[(0, 0), (0.5, 0.5), (1, 0)], [(0.5, 0.5), (0.5, 1)]],
    "capital Z": [[(0, 0), (1, 0), (0, 1), (1, 1)]],
    "small a": [bow(0.45, 0.6, 0.42, 0.4, 0, 360), [(0.9, 0.2), (0.9, 1)]],
    "small b": [[(0.1, 0), (0.1, 1)], bow(0.5, 0.7, 0.4, 0.3, 0, 360)],
    "small d": [[(0.9, 0), (0.9, 1)], bow(0.5, 0.7, 0.4, 0.3, 0, 360)],
    "small e": [[(0.1, 0.55), (0.9, 0.55)] + bow(0.5, 0.5, 0.42, 0.45, 0, -310)],
    "small h": [[(0.1, 0), (0.1, 1)], bow(0.5, 0.7, 0.4, 0.3, 180, 360) + [(0.9, 1)]],
    "small m": [[(0, 0.3), (0, 1)], bow(0.25, 0.5, 0.25, 0.2, 180, 360) + [(0.5, 1)], bow(0.75, 0.5, 0.25, 0.2, 180, 360) + [(1, 1)]],
    "small n": [[(0.1, 0.2), (0.1, 1)], bow(0.5, 0.55, 0.4, 0.35, 180, 360) + [(0.9, 1)]],
    "small p": [[(0.1, 0), (0.1, 1)], bow(0.5, 0.3, 0.4, 0.3, 0, 360)],
    "small q": [[(0.9, 0), (0.9, 1)], bow(0.5, 0.3, 0.4, 0.3, 0, 360)],
    "small r": [[(0.2, 0.1), (0.2, 1)], bow(0.55, 0.45, 0.35, 0.3, 180, 320)],
    "small t": [[(0.45, 0)] + bow(0.65, 0.8, 0.2, 0.2, 180, 40), [(0.1, 0.3), (0.9, 0.3)]],
    "small u": [bow(0.45, 0.6, 0.4, 0.35, 180, 0), [(0.05, 0.1), (0.05, 0.6)], [(0.88, 0.1), (0.88, 1)]],
    "small y": [[(0.05, 0)] + bow(0.45, 0.3, 0.4, 0.25, 180, 0), [(0.9, 0)] + bow(0.5, 0.75, 0.4, 0.25, 0, 150)],
}


def doodles(count, seed):
    """`count` signs that mean nothing: one or two random pen strokes each, for a tower to tell apart."""
    rng = np.random.default_rng(seed)
    signs = []
    for _ in range(count):
        sign = []
        for _ in range(rng.integers(1, 3)):
            stroke = [tuple(rng.uniform(0, 1, 2))]
            for _ in range(rng.integers(1, 4)):
                if rng.random() < 0.5:
                    stroke.append(tuple(rng.uniform(0, 1, 2)))
                else:
                    start = rng.uniform(-180, 180)
                    centre, radius = rng.uniform(0.25, 0.75, 2), rng.uniform(0.2, 0.45, 2)
                    stroke += bow(*centre, *radius, start, start + rng.choice([-1, 1]) * rng.uniform(90, 360))
            sign.append(stroke)
        signs.append(sign)
    return signs


def written(rng, strokes):
    """Pen strokes on paper, pulled out of shape, most of them scanned coarsely."""
    side = SIZE * FINE
    picture = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(picture)
    turn, lean = np.radians(rng.uniform(-14, 14)), rng.uniform(-0.25, 0.25)
    width, height = side * rng.uniform(0.35, 0.7), side * rng.uniform(0.65, 1.0)
    bend = rng.uniform(-0.05, 0.05, 4)
    middle = side * rng.uniform(0.44, 0.56, 2)
    pen, shade = int(side * rng.uniform(0.1, 0.26)), int(rng.integers(190, 256))

    def on_paper(x, y):
        x, y = x - 0.5, y - 0.5
        x, y = x + bend[0] * np.sin(6 * y) + bend[1] * np.cos(4 * x) - lean * y, y + bend[2] * np.sin(6 * x) + bend[3] * np.cos(4 * y)
        x, y = x * width, y * height
        return (middle[0] + x * np.cos(turn) - y * np.sin(turn), middle[1] + x * np.sin(turn) + y * np.cos(turn))

    for stroke in strokes:
        points = [on_paper(x, y) for x, y in stroke]
        draw.line(points, fill=shade, width=pen, joint="curve")
        for x, y in (points[0], points[-1]):
            draw.ellipse([x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2], fill=shade)
    if rng.random() < 0.75:
        grid = int(rng.choice([8, 8, 8, 12, 16]))
        picture = picture.resize((grid, grid), Image.BOX).resize((SIZE, SIZE), Image.BICUBIC)
    else:
        picture = picture.resize((SIZE, SIZE), Image.LANCZOS)
    return picture.convert("RGB")


def letters_scene(rng):
    name = list(LETTERS)[rng.integers(len(LETTERS))]
    picture = written(rng, LETTERS[name])
    size, letter = name.split()
    asked = [
        ("What is in this image?", f"the {size} letter {letter}"),
        ("Which letter is written?", letter),
        ("What is written here?", letter),
        ("What do you read?", letter),
        ("Is it a capital or a small letter?", size),
        ("How many letters are there?", NUMBERS[1]),
        ("Describe the image.", f"It shows the {size} letter {letter}."),
    ]
    return picture, asked


def scene(rng, turns=3):
    """A picture and `turns` (question, answer) pairs about it, in random order."""
    family = rng.choice([shapes_scene, strokes_scene, letters_scene], p=[0.25, 0.2, 0.55])
    picture, asked = family(rng)
    return picture, [asked[i] for i in rng.permutation(len(asked))[:turns]]
