"""The looks that the embedded model learns: name, ways to ask for it, and where its pictures come from; no drawing code.

A look is made either by the style teacher (rows of the style table, and how vivid the result is made) or by one
procedural function. Names describe the picture; artists are named only where they died long ago.
"""

from collections.abc import Callable
from dataclasses import dataclass

from . import procedural_colour as colour
from . import procedural_line as line
from .tones import Picture


@dataclass(frozen=True)
class Look:
    """One look: `prompts[0]` is its plain name; exactly one of `drawn` and `style` is set.

    `style` is (kind, name, how many rows of that name to skip) in the style table; `saturation` and `contrast` are
    applied to the teacher's picture.
    """

    prompts: tuple[str, ...]
    drawn: Callable[[Picture], Picture] | None = None
    style: tuple[str, str, int] | None = None
    saturation: float = 1.0
    contrast: float = 1.0

    @property
    def name(self) -> str:
        return self.prompts[0]


def drawn(function: Callable[[Picture], Picture], *prompts: str) -> Look:
    """A look drawn by `function`."""
    return Look(prompts=prompts, drawn=function)


def taught(kind: str, row: str, *prompts: str, skip: int = 0, saturation: float = 1.25, contrast: float = 1.1) -> Look:
    """A look made by the style teacher from one row of the style table."""
    return Look(prompts=prompts, style=(kind, row, skip), saturation=saturation, contrast=contrast)


DRAWN: tuple[Look, ...] = (
    drawn(line.pencil_sketch, "pencil sketch", "graphite pencil drawing", "black and white hand drawn sketch"),
    drawn(line.ink_drawing, "ink drawing", "black ink line art", "pen and ink illustration on paper"),
    drawn(line.neon_edges, "neon edges", "glowing neon lines", "neon sign outlines glowing in the dark"),
    drawn(line.blueprint, "blueprint", "technical blueprint drawing", "white lines on blue construction plan"),
    drawn(line.chalkboard, "chalkboard", "chalk drawing", "white chalk on a dark green blackboard"),
    drawn(line.halftone, "halftone", "newspaper print dots", "black and white halftone dot print"),
    drawn(line.comic_book, "comic book", "superhero comic panel", "printed comic with dots and outlines"),
    drawn(line.cartoon, "cartoon", "cel shaded cartoon", "flat bright animation with black outlines"),
    drawn(line.pixel_art, "pixel art", "16-bit pixels", "blocky retro video game pixels"),
    drawn(line.handheld_game, "handheld game", "handheld game screen", "old green monochrome game console"),
    drawn(line.led_wall, "led wall", "led screen dots", "glowing round lamps on a stage screen"),
    drawn(line.green_code, "matrix code", "green terminal text", "ascii characters of a hacker terminal"),
    drawn(line.linocut, "linocut", "black block print", "carved woodcut print"),
    drawn(line.engraving, "banknote engraving", "green engraved lines", "old steel engraving on money"),
    drawn(line.cross_stitch, "cross stitch", "embroidery on linen", "stitched yarn needlework"),
    drawn(line.contour_map, "topographic map", "contour lines map", "hiking map with height lines"),
    drawn(line.stained_glass, "stained glass", "church window", "glowing coloured glass panes with black lead"),
    drawn(colour.thermal_camera, "thermal camera", "heat vision", "infrared heat map colours"),
    drawn(colour.night_vision, "night vision", "green night vision goggles", "green phosphor surveillance camera"),
    drawn(colour.x_ray, "x-ray", "radiograph film", "medical x-ray scan"),
    drawn(colour.sepia, "sepia", "old brown photograph", "antique sepia photo"),
    drawn(colour.screen_print_poster, "poster", "red and blue screen print poster", "political campaign poster"),
    drawn(colour.fire, "fire", "burning flames", "everything made of fire and embers"),
    drawn(colour.ice, "ice", "frozen in ice", "frosty blue ice sculpture"),
    drawn(colour.gold, "gold", "golden statue", "made of polished gold"),
    drawn(colour.chrome, "chrome", "liquid metal", "shiny chrome mirror surface"),
    drawn(colour.acid_rainbow, "rainbow", "acid rainbow colours", "psychedelic rainbow gradient"),
    drawn(colour.duotone, "pink duotone", "hot pink and deep blue", "duotone print in pink and blue"),
    drawn(colour.negative, "negative", "inverted colours", "colour film negative"),
    drawn(colour.anaglyph, "anaglyph 3d", "red and cyan 3d glasses", "stereo red cyan picture"),
    drawn(colour.vhs_tape, "vhs tape", "worn video tape", "1980s camcorder recording"),
    drawn(colour.sunset_silhouette, "sunset silhouette", "black shapes at sunset", "orange sunset backlight"),
    drawn(colour.moonlight, "moonlight", "blue night", "dark night in the moonlight"),
    drawn(colour.infrared_film, "infrared film", "pink infrared photography", "false colour pink trees"),
    drawn(colour.stone_relief, "stone relief", "carved marble", "grey stone carving sculpture"),
    drawn(colour.watercolour, "watercolor", "watercolour painting", "transparent aquarelle on white paper"),
    drawn(colour.hologram, "hologram", "cyan hologram projection", "sci-fi holographic scan lines"),
    drawn(colour.oil_painting, "oil painting", "thick oil paint on canvas", "classical oil portrait"),
)

SDXL, SD35, PAINTING, VISUAL = "sdxl style", "sd35 style", "painting", "visual"
TAUGHT: tuple[Look, ...] = (
    taught(PAINTING, "starry_night", "starry night", "van gogh", "swirling blue brush strokes at night"),
    taught(PAINTING, "frida_kahlo", "mexican folk painting", "ochre portrait from mexico", "earthy folk art", saturation=1.4),
    taught(PAINTING, "the_scream", "the scream", "edvard munch", "orange expressionist anxiety", saturation=1.4),
    taught(PAINTING, "rain_princess", "palette knife painting", "orange and blue impasto", "thick autumn paint"),
    taught(PAINTING, "la_muse", "cubist muse", "colourful cubism with outlines", "abstract shapes with black lines"),
    taught(PAINTING, "wave", "the great wave", "hokusai", "japanese wave woodblock print"),
    taught(PAINTING, "mondrian", "analytical cubism", "grey and ochre cubist lines", "line grid on canvas"),
    taught(PAINTING, "escher_sphere", "lithograph", "grey fine lithography", "stone print in grey", saturation=1.0),
    taught(SDXL, "artstyle-psychedelic", "psychedelic", "lsd trip", "red and turquoise psychedelic art"),
    taught(SDXL, "futuristic-vaporwave", "vaporwave", "pink and teal retro aesthetic", "80s synthwave"),
    taught(SDXL, "sai-neonpunk", "cyberpunk", "neonpunk city", "purple magenta neon noir"),
    taught(SDXL, "MK Blacklight Paint", "blacklight", "ultraviolet fluorescent paint", "uv body paint", contrast=1.2),
    taught(SDXL, "MK tlingit-art", "totem carving", "bold red and black formline", "painted wooden mask"),
    taught(SDXL, "Neo-Impressionism", "pointillism", "tiny dabs of colour", "painted with small dots"),
    taught(SDXL, "artstyle-pop art", "pop art", "vivid flat pop colours", "sixties pop art print"),
    taught(SDXL, "MK constructivism", "paper collage", "red and violet paper cut-out", "geometric collage"),
    taught(SDXL, "MK atompunk", "atompunk", "teal and red retro future", "atomic age illustration"),
    taught(SDXL, "misc-lovecraftian", "lovecraft", "cosmic horror", "dark teal eldritch horror", contrast=1.2),
    taught(SD35, "Pop Art", "yellow pop art", "yellow and violet print", "bright yellow two colour print"),
    taught(SD35, "Mosaic", "mosaic", "roman mosaic tiles", "made of small coloured tiles"),
    taught(SD35, "Cyanotype", "cyanotype", "prussian blue print", "blue photographic print"),
    taught(SD35, "Pyrography", "wood burning", "pyrography", "burnt into a wooden plank"),
    taught(SD35, "Charcoal Drawing", "charcoal", "charcoal drawing", "smudged black charcoal", saturation=1.0),
    taught(SD35, "Batik", "batik", "golden batik cloth", "wax dyed textile"),
    taught(SD35, "Fauvism", "fauvism", "wild bright colours", "orange and green fauvist painting"),
    taught(SD35, "Underwater Photography", "underwater", "deep sea", "turquoise water light"),
    taught(VISUAL, "milkdrop", "music visualizer", "blue and red liquid visuals", "vj loop", skip=6),
    taught(VISUAL, "milkdrop", "slime", "green and purple liquid", "toxic green ooze", skip=8),
    taught(VISUAL, "milkdrop", "black stencil", "black and white spray stencil", "street stencil", skip=7),
)

LOOKS: tuple[Look, ...] = DRAWN + TAUGHT
RECOMMENDED: tuple[str, ...] = (
    "neon edges", "thermal camera", "blueprint", "ink drawing", "x-ray", "night vision", "fire", "ice", "vaporwave",
    "pop art", "blacklight", "starry night",
)  # fmt: skip
