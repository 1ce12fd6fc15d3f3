"""Image files, local or remote, to upright 8-bit RGB. Whatever is wrong with a file becomes a status and a reason.

How each kind of file becomes RGB is said in :mod:`storage.media.rgb`.
"""

from __future__ import annotations

import importlib.util
import io
import re
import struct
import threading
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray
from PIL import Image, ImageFile

from storage.errors import SightlineError, UserError, on_one_line
from storage.files import file_system, is_of_the_way, is_url, kind_of_no_file
from storage.media.containers import Crop, Member
from storage.media.rgb import PLAIN_MODES, is_deep, notes_on, orientation_of, to_rgb, upright

MAX_PIXELS = 178_956_970
"""Images above this are refused unread: Pillow's own limit for a decompression bomb, in pixels."""
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
    return upright(_as_rgb(image), orientation_of(image))


def decode_levels(content: bytes) -> NDArray[Any]:
    """The pixels of an encoded image, upright, as they are stored: (height, width), or with channels; of a palette the
    places in it. Raises ImageError as :func:`read_image` does."""
    image = _open(content, MAX_PIXELS)
    _load(image)
    return np.asarray(upright(image, orientation_of(image)))


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
    deep = is_deep(image, content)
    rgb = _as_rgb(image) if deep or image.mode not in PLAIN_MODES else None
    note = "; ".join(notes_on(image, rgb if deep else None)) or None
    return Examined(height, width, note) if orientation_of(image) >= 5 else Examined(width, height, note)


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
    return str(image.format), orientation_of(image) == 1


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
        return to_rgb(image)
    except (ValueError, OSError) as error:
        raise _unreadable(f"cannot convert mode {image.mode} to RGB: {error}; save the image as 8-bit RGB") from error


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
