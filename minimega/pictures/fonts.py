"""Texts in pictures that every machine can draw: fonts for their characters, or their numbers instead.

Matplotlib's own font has no Chinese, Japanese or Korean characters; it draws boxes for them and warns.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache

from minimega.pictures.loss import load_matplotlib

# Tried first: they look like a sans serif font. Then any other font of the machine.
LIKED = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC", "Heiti SC",
    "SimHei", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Arial Unicode MS",
)  # fmt: skip
NEVER = "Last Resort"  # draws a box for everything


@contextmanager
def fonts_for(texts: Iterable[str]) -> Iterator[Callable[[str], str]]:
    """Inside, new texts are drawn with fonts for the characters of these; yields how to show a text.

    A text is shown as it is, but the number of a character stands for one that no installed font has.

    >>> with fonts_for(["tale"]) as shown:
    ...     shown("tale")
    'tale'
    """
    load_matplotlib()
    import matplotlib as mpl
    from matplotlib import font_manager

    own = font_manager.findfont(mpl.rcParams["font.sans-serif"][0])
    missing = {c for text in texts for c in text if c != "\n"} - characters(own)
    families = [mpl.rcParams["font.sans-serif"][0]]
    for name, path in installed() if missing else ():
        if missing & characters(path):
            families.append(name)
            missing = missing - characters(path)
        if not missing:
            break

    def shown(text: str) -> str:
        return "".join(f"[{ord(c):x}]" if c in missing else c for c in text)

    with mpl.rc_context({"font.family": families}):
        yield shown


def installed() -> list[tuple[str, str]]:
    """The name and the file of each font of this machine, those of LIKED first, each name once."""
    from matplotlib import font_manager

    fonts = {f.name: f.fname for f in font_manager.fontManager.ttflist if not f.name.startswith(NEVER)}
    order = sorted(fonts, key=lambda name: (LIKED.index(name) if name in LIKED else len(LIKED), name))
    return [(name, fonts[name]) for name in order]


@cache
def characters(path: str) -> frozenset[str]:
    """The characters that a font file can draw; none if it cannot be read."""
    from matplotlib import font_manager

    try:
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()
