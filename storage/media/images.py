"""Image files, local or remote, to upright 8-bit RGB. Whatever is wrong with a file becomes a status and a reason.

How each kind of file becomes RGB:

- EXIF orientation is applied. EXIF that cannot be parsed counts as upright, as in every viewer.
- Grayscale is repeated over the channels; 16-bit values v become round(v * 255 / 65535), never clipped.
  Of a TIFF in which 0 is white they are turned.
- Transparent pixels are composited over white, which is what a person sees; the hidden colours under them are not used.
- CMYK goes through its ICC profile to sRGB where it carries a usable one, else through Pillow's plain formula.
- An ICC profile of an RGB image is ignored, as in torchvision's pipelines. Of several frames the first counts.
"""

from __future__ import annotations

import importlib.util
import io
import re
import struct
import threading
import warnings
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageFile, TiffImagePlugin

from storage.errors import SightlineError, UserError, on_one_line
from storage.files import file_system, is_of_the_way, is_url, kind_of_no_file
from storage.media.containers import Crop, Member

MAX_PIXELS = 178_956_970
"""Images above this are refused unread: Pillow's own limit for a decompression bomb, in pixels."""

EXIF_DAMAGED = "the EXIF data are damaged; the image is taken as upright"
"""The note on an image whose EXIF orientation cannot be read."""

# Pillow's warning of damaged EXIF does not name the file, and comes once; `examine_image` tells it of each image.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")

# Modes that always become RGB.
_PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")

# Formats that are pictures. Pillow knows more; some of those run other programs (EPS starts Ghostscript).
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
IMAGE_EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff"),
        *("ppm", "pgm", "pbm", "pnm", "jp2", "avif", "heic", "heif"),
    )
)
"""Of file names that readers of datasets take for images, in small letters."""
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

CUT_AT_ONCE = 4
"""Decoded images that are kept for the crops of them: threads that cut crops work on neighbours."""

_cutting = threading.Lock()

_QUOTED_BYTES = re.compile(r"""b(['"]).*\1""")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(SightlineError):
    """An image that cannot be used: ``status`` is a word of the samples table, ``reason`` says why in words."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return on_one_line(self.reason)


class ImageNotGiven(ImageError):
    """An image that its object store does not give now; whether it could be used is not known."""


@dataclass(frozen=True)
class FileStamp:
    """What tells a changed file from an unchanged one without reading it."""

    size_bytes: int
    mtime_ns: int | None
    """Modification time, ns; None where the file system has none."""


def read_image(uri: str, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the image at a local path or fsspec URL: mode RGB, EXIF orientation applied.

    Raises ImageError, status ``unreadable``, for a file that is missing, empty, no image, truncated, damaged, or of
    more than ``max_pixels`` pixels.
    """
    return decode_image(read_bytes(uri), max_pixels=max_pixels)


def decode_image(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an encoded image as :func:`read_image` does."""
    image = _open(content, max_pixels)
    _load(image)
    rgb = _as_rgb(image)
    orientation = _orientation(image)
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def decode_levels(content: bytes) -> NDArray[Any]:
    """The pixels of an encoded image, upright, as they are stored: (height, width), or with channels; of a palette the
    places in it. Raises ImageError as :func:`read_image` does."""
    image = _open(content, MAX_PIXELS)
    _load(image)
    orientation = _orientation(image)
    return np.asarray(image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image)


@dataclass(frozen=True)
class Examined:
    """What an encoded image says of itself: upright size, px, and what is wrong with it though it can be read."""

    width: int
    height: int
    note: str | None = None


def examine_image(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Examined:
    """Judge an encoded image as :func:`decode_image` would: whatever passes here is decoded there.

    JPEG is decoded at an eighth of its size, which visits all of its data; other formats are decoded whole, since only
    that shows that nothing is missing (and PNG may keep its EXIF behind its pixels). Raises ImageError as
    :func:`read_image` does.
    """
    image = _open(content, max_pixels)
    width, height = image.size
    image.draft(None, (max(1, width // 8), max(1, height // 8)))
    _load(image)
    if image.mode not in _PLAIN_MODES:
        _as_rgb(image)
    note = EXIF_DAMAGED if _exif_is_damaged(image) else None
    return Examined(height, width, note) if _orientation(image) >= 5 else Examined(width, height, note)


def image_size(content: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Upright (width, height), px, of an encoded image that was found to be complete: see :func:`examine_image`."""
    examined = examine_image(content, max_pixels=max_pixels)
    return examined.width, examined.height


def stored_as(content: bytes) -> tuple[str, bool]:
    """Format of an encoded image (JPEG, PNG ...), and whether its pixels are stored upright, without an EXIF turn.

    Raises ImageError as :func:`read_image` does.
    """
    image = _open(content, MAX_PIXELS)
    if image.format != "JPEG":  # a JPEG has its EXIF before its pixels; others may have it behind
        _load(image)
    return str(image.format), _orientation(image) == 1


def stamp_file(uri: str) -> FileStamp:
    """Size and modification time of a file (of a crop: its image); raises ImageError if it is missing or no file."""
    try:
        if (local := local_path(uri)) is not None:
            return _stamp_local(local)
        if crop := Crop.parse(uri):
            return stamp_file(crop.image)
        if member := Member.parse(uri):
            size, info = member.stamp()
            return FileStamp(size, _modified_ns(info))
        fs, path = file_system(uri)
        info = fs.info(path)
    except FileNotFoundError:
        raise _unreadable(f"no such file: {uri}") from None
    except UserError as error:
        raise _unreadable(str(error)) from None
    except Exception as error:  # each file system raises types of its own
        raise _not_read(uri, error) from error
    return FileStamp(int(info.get("size") or 0), _modified_ns(info))


def read_bytes(uri: str) -> bytes:
    """The whole file at a local path or fsspec URL.

    Raises ImageError if it is missing or cannot be read, or if no installed package opens the URL.
    """
    try:
        if (local := local_path(uri)) is not None:
            _stamp_local(local)
            return local.read_bytes()
        if crop := Crop.parse(uri):
            return crop.cut(_whole(crop.image))
        if member := Member.parse(uri):
            return member.read()
        fs, path = file_system(uri)
        return bytes(fs.cat_file(path))
    except FileNotFoundError:
        raise _unreadable(f"no such file: {uri}") from None
    except IsADirectoryError:
        raise _unreadable(f"is a folder, not an image: {uri}") from None
    except ImageError:
        raise
    except UserError as error:  # no package opens the URL
        raise _unreadable(str(error)) from None
    except Exception as error:  # each file system raises types of its own
        raise _not_read(uri, error) from error


def _whole(uri: str) -> Image.Image:
    """The image that a crop is of: crops of an image follow each other, and it is decoded once for all of them."""
    stamp = stamp_file(uri)
    if stamp.mtime_ns is None:  # nobody can say whether it is the same file still
        return read_image(uri)
    with _cutting:  # whoever wants another crop of it waits for the one who decodes it
        return _decoded(uri, stamp)


@lru_cache(maxsize=CUT_AT_ONCE)
def _decoded(uri: str, stamp: FileStamp) -> Image.Image:
    return read_image(uri)


def read_ends(uri: str, count: int) -> tuple[bytes, bytes]:
    """The first and the last ``count`` bytes of a file, however large; raises as :func:`read_bytes` does."""
    size = stamp_file(uri).size_bytes
    fs, path = file_system(uri)
    try:
        return bytes(fs.cat_file(path, end=count)), bytes(fs.cat_file(path, start=max(0, size - count)))
    except Exception as error:  # each file system raises types of its own
        raise _not_read(uri, error) from error


def local_path(uri: str) -> Path | None:
    """The path of an image that lies on a local disk; None for one elsewhere."""
    if not is_url(uri):
        return Path(uri)
    if Crop.parse(uri) or Member.parse(uri):
        return None
    fs, path = file_system(uri)
    return Path(path) if isinstance(fs, LocalFileSystem) else None


def _stamp_local(path: Path) -> FileStamp:
    """Stamp of a regular file."""
    found = path.stat()
    if kind := kind_of_no_file(found):
        raise _unreadable(f"is a {kind}, not a file: {path}")
    return FileStamp(found.st_size, found.st_mtime_ns)


def _modified_ns(info: dict[str, Any]) -> int | None:
    """Modification time in what a file system tells of a file: each has a name of its own for it."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(key)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                continue
        if isinstance(value, datetime):
            value = value.timestamp()
        if isinstance(value, int | float):
            return int(value * 1e9)
    return None


def _open(content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """The image in ``content``, its header read, its pixels not.

    ``Image.open`` judges the size by a global limit and warns through global filters; this is the same loop over the
    registered formats, with the limit of the caller.
    """
    if not content:
        raise _unreadable("the file is empty (0 bytes)")
    Image.init()
    if content[8:12] in _HEIC_BRANDS and "HEIF" not in Image.OPEN:
        _register_heic()
    fault = "not an image in a known format"
    for name in _FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None:
            continue
        try:
            if accept is not None and accept(content[:16]) is not True:
                continue
            image = factory(io.BytesIO(content), "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            # A header that cannot be read; another format may still know these first bytes.
            fault = _said(f"truncated or damaged {name} header", error)
            continue
        except Exception as error:
            raise _unreadable(_said(f"truncated or damaged {name} header", error)) from error
        width, height = image.size
        if width * height > max_pixels:
            raise _unreadable(
                f"{width} x {height} = {width * height} pixels, above the limit of {max_pixels} "
                "(a decompression bomb?); resize the image"
            )
        return image
    raise _unreadable(_remedy(content) or f"{fault} ({len(content)} bytes)")


def _remedy(content: bytes) -> str | None:
    """What to do about a file that stands for an image, or needs a package; None for another kind of file."""
    if content.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the image itself: git lfs pull"
    brand = content[8:12] if content[4:8] == b"ftyp" else b""
    if brand in _HEIC_BRANDS:
        return "a HEIC image, which Pillow does not read by itself: pip install pillow-heif, or save it as JPEG"
    if brand in (b"avif", b"avis"):
        return "an AVIF image, and this Pillow was built without AVIF: pip install --upgrade pillow, or save it as JPEG"
    return None


def _register_heic() -> None:
    """Let Pillow read HEIC where the package for it is installed."""
    if importlib.util.find_spec("pillow_heif") is not None:
        importlib.import_module("pillow_heif").register_heif_opener()


def _load(image: ImageFile.ImageFile) -> None:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # decoders raise many types on damaged data
        raise _unreadable(_said(f"truncated or damaged {image.format} file", error)) from error


def _as_rgb(image: Image.Image) -> Image.Image:
    try:
        return _to_rgb(image)
    except (ValueError, OSError) as error:
        raise _unreadable(f"cannot convert mode {image.mode} to RGB: {error}; save the image as 8-bit RGB") from error


def _to_rgb(image: Image.Image) -> Image.Image:
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


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8. Read it after loading: Pillow turns TIFF files itself and then forgets the tag."""
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


def _unreadable(reason: str) -> ImageError:
    return ImageError("unreadable", reason)


def _not_read(uri: str, error: Exception) -> ImageError:
    reason = _said("cannot be read", error)
    return ImageNotGiven("unreadable", reason) if is_of_the_way(uri, error) else _unreadable(reason)


def _said(what: str, error: Exception) -> str:
    """An error in words, without the bytes that Pillow quotes: a path may lead to a file that is no image."""
    told = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
    told = _QUOTED_BYTES.sub("...", told)
    return f"{what}: {told or type(error).__name__}"
