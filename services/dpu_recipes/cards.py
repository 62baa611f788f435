"""The cards of a FITS header: as they were written, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from astropy.io import fits
from astropy.io.fits.verify import VerifyError

#: Cards that say how the exposure's own file was laid out, and nothing of what was observed.
_LAYOUT: Final = frozenset(
    {"SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "PCOUNT", "GCOUNT", "GROUPS", "EXTEND"}
    | {"INHERIT", "NEXTEND", "BSCALE", "BZERO", "CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM", "TFIELDS", "END"}
)
#: Comments that libraries put into headers that they make.
_BOILERPLATE: Final = ("FITS (Flexible Image Transport System)", "volume 376, page 359")
_REPEATED: Final = ("COMMENT", "HISTORY", "")


@dataclass(frozen=True, slots=True)
class Cards:
    """Cards of a header, and their values by keyword."""

    images: tuple[tuple[str, str], ...]
    values: dict[str, Any]

    @classmethod
    def of(cls, header: fits.Header) -> Cards:
        """Take in a header, less what concerns only the layout of its file."""
        images, values = [], {}
        for card in header.cards:
            if card.keyword in _LAYOUT or _is_boilerplate(card):
                continue
            values[card.keyword] = _value(card)
            images.append((card.keyword, _image(card)))
        return cls(tuple(images), values)

    def telling(self, keyword: str, value: Any) -> Cards:
        """Return the same cards, which say `value` where none is under `keyword`; it is written nowhere."""
        return Cards(self.images, {keyword: value, **self.values})

    def over(self, primary: Cards) -> Cards:
        """Return the cards of the exposure's primary header, then these, which win."""
        kept = (card for card in primary.images if card[0] in _REPEATED or card[0] not in self.values)
        return Cards((*kept, *self.images), {**primary.values, **self.values})


def _is_boilerplate(card: fits.Card) -> bool:
    return card.keyword == "COMMENT" and any(text in card.image for text in _BOILERPLATE)


def _image(card: fits.Card) -> str:
    # Packing programs give EXTNAME a comment of their own: without one, packed and plain are the same.
    return str((fits.Card(card.keyword, card.value) if card.keyword == "EXTNAME" else card).image)


def _value(card: fits.Card) -> Any:
    try:
        return card.value
    except VerifyError:
        return None  # a card that nobody can read says nothing
