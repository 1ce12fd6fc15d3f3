"""What a decoded image shows: its pixels as 8-bit RGB, which way up it is, and what is doubtful about both.

- EXIF orientation is applied. EXIF that cannot be parsed counts as upright, as in every viewer.
- Grayscale is repeated over the channels; 16-bit values v become round(v * 255 / 65535), never clipped.
  Of a TIFF in which 0 is white they are turned.
- Transparent pixels are composited over white, which is what a person sees; the hidden colours under them are not used.
- CMYK goes through its ICC profile to sRGB where it carries a usable one, else through Pillow's plain formula.
- An ICC profile of an RGB image is ignored, as in torchvision's pipelines. Of several frames the first counts.
"""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

EXIF_DAMAGED = "the EXIF data are damaged; the image is taken as upright"
TOO_DARK = "no pixel is brighter than a quarter of white: values of 12 or 14 bits in a 16-bit file? Scale them to 65535"
NOTES = (EXIF_DAMAGED, TOO_DARK)
"""What may be doubtful about an image that can be read."""

PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's modes that always become RGB."""

_DARK = 64
"""A quarter of white, of 256 levels."""

# Pillow's warning of damaged EXIF does not name the file, and comes once; `notes_on` tells it of each image.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image as its EXIF orientation says."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def is_deep(image: Image.Image, content: bytes) -> bool:
    """Whether a channel of the loaded image has more than 8 bits in its file ``content``."""
    if image.format == "PNG":
        return content[24] > 8  # the bit depth in IHDR, PNG specification 11.2.1
    bits = getattr(image, "tag_v2", {}).get(TiffImagePlugin.BITSPERSAMPLE, (8,))
    return image.mode.startswith(("I", "F")) or max(np.atleast_1d(bits)) > 8


def notes_on(image: Image.Image, rgb: Image.Image | None) -> list[str]:
    """What is doubtful about a loaded image. ``rgb`` is it as RGB, given where it :func:`is_deep`."""
    dark = rgb is not None and int(np.asarray(rgb).max()) <= _DARK
    return [note for note, holds in ((EXIF_DAMAGED, _exif_is_damaged(image)), (TOO_DARK, dark)) if holds]


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image as 8-bit RGB, not turned; raises ValueError or OSError for values that are no colour."""
    if image.mode.startswith(("I", "F")):
        return _from_deep_gray(image)
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return image.convert("RGB")


def _from_deep_gray(image: Image.Image) -> Image.Image:
    """Grayscale of 16 bits (modes I;16, I) or floating point (F, white = 1)."""
    values = np.asarray(image).astype(np.float64)
    white = 1.0 if image.mode == "F" else 65535.0
    # Pillow turns the values of 8 bits alone where a TIFF says that 0 is white.
    inverted = getattr(image, "tag_v2", {}).get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= white):
        raise ValueError(f"values from {values.min():g} to {values.max():g}, where black is 0 and white is {white:g}")
    if inverted:
        values = white - values
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8)).convert("RGB")


def _from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        try:
            converted = ImageCms.profileToProfile(
                image, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except ImageCms.PyCMSError:
            converted = None  # a broken profile, or one of another colour space: as if there were none
        if converted is not None:
            return converted
    return image.convert("RGB")


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8, of a loaded image: Pillow turns a TIFF as it loads it, and then forgets the tag."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF is parsed lazily and fails in many types; a broken one turns no image
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def _exif_is_damaged(image: Image.Image) -> bool:
    """Whether EXIF data lack their header, or the whole of their first directory, in which the orientation stands."""
    exif = image.info.get("exif")
    if not isinstance(exif, bytes) or not exif:
        return False
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return True
    (start,) = struct.unpack(f"{order}I", tiff[4:8])
    if start + 2 > len(tiff):
        return True
    (entries,) = struct.unpack(f"{order}H", tiff[start : start + 2])
    return bool(start + 2 + 12 * entries > len(tiff))
