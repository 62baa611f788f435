"""The sequences that can be asked for and their options, as data. One line in SEQUENCES adds a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpu_recipes.frames import Plain


class Kind(StrEnum):
    """What the value of an option is; the values are the names that the catalogue on the wire has for them."""

    TEXT = "OPTION_KIND_TEXT"
    INTEGER = "OPTION_KIND_INTEGER"
    FLOAT = "OPTION_KIND_FLOAT"
    FLAG = "OPTION_KIND_FLAG"
    DATE = "OPTION_KIND_DATE"
    LIST = "OPTION_KIND_LIST"
    PARAMETERS = "OPTION_KIND_PARAMETERS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a sequence."""

    short: str
    long: str
    kind: Kind
    #: '' where the option has none: what happens then is in `help`.
    default: Plain = ""
    help: str
    minimum: float | None = None
    maximum: float | None = None
    #: Whether it says which frames: one such must be given beside instrument.
    selects: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """What `dpu.run` takes by name: one recipe or several, each using what the one before it made."""

    name: str
    #: One line.
    summary: str
    #: Short names, in the order in which they are shown.
    options: str
    #: Names of the recipes, in the order in which they run.
    stages: tuple[str, ...]

    def option_list(self) -> list[Option]:
        """Return the options in the order in which they are shown."""
        return [OPTIONS[short] for short in self.options.split()]

    def one_of(self) -> list[str]:
        """Return the long names of options of which at least one must be given beside instrument."""
        return [option.long for option in self.option_list() if option.selects]


OPTIONS = {
    option.short: option
    for option in (
        Option(short="i", long="instrument", kind=Kind.TEXT, help="the camera, 'WFI'"),
        Option(
            short="d",
            long="date",
            kind=Kind.DATE,
            help="the night that begins that evening, 'CCYY-MM-DD'",
            selects=True,
        ),
        Option(short="c", long="chip", kind=Kind.TEXT, help="the CCD, 'ccd50' (default: all of the instrument)"),
        Option(short="f", long="filter", kind=Kind.TEXT, help="the filter, '#842' (default: a product each)"),
        Option(
            short="oc",
            long="overscan",
            kind=Kind.INTEGER,
            help="overscan method (default: the instrument's, mostly 6); ReadNoise subtracts none, whatever is given",
            minimum=0,
            maximum=10,
        ),
        Option(
            short="p",
            long="pars",
            kind=Kind.PARAMETERS,
            default={},
            help="process parameters that differ from their defaults",
        ),
        Option(
            short="C",
            long="commit",
            kind=Kind.FLAG,
            default=0,
            help="1: the products outlive the job, and others may use them",
            minimum=0,
            maximum=1,
        ),
        Option(
            short="raw",
            long="raw_filenames",
            kind=Kind.LIST,
            default=[],
            help="names of raw frames, or of the exposures that they came from, instead of a selection",
            selects=True,
        ),
        Option(
            short="template",
            long="template",
            kind=Kind.TEXT,
            help="start of the template that took the frames, UTC, 'CCYY-MM-DDThh:mm:ss', instead of a night, or in it",
            selects=True,
        ),
        Option(
            short="combine",
            long="combine",
            kind=Kind.INTEGER,
            default=1,
            help="1: small scales of the dome flat, large ones of the twilight flat; 2: dome only; 3: twilight only",
            minimum=1,
            maximum=3,
        ),
    )
}

#: What every recipe takes beside its own options, and no list of these shows.
FORCE = Option(
    short="force",
    long="force",
    kind=Kind.FLAG,
    default=0,
    help="1: make products that exist and are valid again",
    minimum=0,
    maximum=1,
)
DEEP = Option(
    short="deep",
    long="deep",
    kind=Kind.FLAG,
    default=0,
    help="1: make missing inputs first, by stages before",
    minimum=0,
    maximum=1,
)
TARGETS = Option(
    short="targets",
    long="targets",
    kind=Kind.LIST,
    default=[],
    help="the stages for which the others make what is missing; `run` gives it",
)
DRYRUN = Option(
    short="dryrun",
    long="dryrun",
    kind=Kind.FLAG,
    default=0,
    help="1: plans tell what would run, and nothing does; `run` gives it for dpu_dryrun",
    minimum=0,
    maximum=1,
)
PRIVILEGES = Option(
    short="privileges",
    long="privileges",
    kind=Kind.INTEGER,
    default=0,
    help="how far the products are seen, 1 to 5; `run` gives it for context.set_privileges",
    minimum=0,
    maximum=5,
)
UNLISTED = (FORCE, DEEP, TARGETS, DRYRUN, PRIVILEGES)

#: In the order in which they are listed.
SEQUENCES = (
    Sequence("HotPixels", "Map the pixels that stand out of a bias", "i d c p C", ("HotPixels",)),
    Sequence("ReadNoise", "Measure the read noise from a pair of biases", "i d c oc p C raw", ("ReadNoise",)),
    Sequence("Bias", "Make a master bias from the biases of a night", "i d c oc p C raw", ("Bias",)),
    Sequence("MasterFlat", "Combine dome and twilight flat", "i d c f p C combine", ("MasterFlat",)),
    Sequence(
        "NightSkyFlat", "Make a flat field from the sky of science frames", "i d c f oc p C raw", ("NightSkyFlat",)
    ),
    Sequence("DomeFlat", "Make a flat field from dome flats", "i d c f oc p C raw", ("DomeFlat",)),
    Sequence("TwilightFlat", "Make a flat field from twilight flats", "i d c f oc p C raw", ("TwilightFlat",)),
    Sequence("Gain", "Measure gain and linearity from pairs of dome flats", "i d c oc p C raw template", ("Gain",)),
    Sequence("ColdPixels", "Map the pixels that respond unlike their neighbours", "i d c f p C", ("ColdPixels",)),
    Sequence("QuickCheck", "Check a dome flat", "i d c f oc p C raw", ("QuickCheck",)),
    Sequence("FringeFlat", "Measure the fringes of the night sky", "i d c f oc p C raw", ("FringeFlat",)),
)


def options_of(recipe: str) -> dict[str, Option]:
    """Return the options that a recipe may be given, by long name: those of all sequences that it is a stage of."""
    return {
        option.long: option for sequence in SEQUENCES if recipe in sequence.stages for option in sequence.option_list()
    }
