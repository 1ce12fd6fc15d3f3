from __future__ import annotations

import io
import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms

from storage.media.images import ImageError, examine_image, image_size, read_bytes, read_image, stamp_file

ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def noise(width: int = 64, height: int = 48, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def written(folder: Path, content: bytes, name: str = "image.bin") -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def pixels(image: Image.Image) -> list[list[tuple[int, ...]]]:
    assert image.mode == "RGB"
    return [[tuple(map(int, value)) for value in row] for row in np.asarray(image)]


def deep_png(values: np.ndarray) -> bytes:
    """A 16-bit PNG, grayscale or RGB, written chunk by chunk as the specification says."""
    height, width, *channels = values.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if channels else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


class TestRgb:
    def test_a_plain_png_keeps_its_pixels(self, tmp_path: Path) -> None:
        image = noise()
        assert np.array_equal(np.asarray(read_image(written(tmp_path, encoded(image)))), np.asarray(image))

    def test_grayscale_is_repeated_over_the_channels(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.array([[0, 100, 255]], np.uint8))
        assert pixels(read_image(written(tmp_path, encoded(image)))) == [[(0, 0, 0), (100, 100, 100), (255, 255, 255)]]

    def test_sixteen_bits_are_scaled_and_not_clipped(self, tmp_path: Path) -> None:
        # 257 * k is exactly k of 255; 128 is just below half a step of 257, 129 just above
        values = np.array([[0, 257 * 7, 32896, 65535], [128, 129, 300, 65400]], np.uint16)
        found = np.asarray(read_image(written(tmp_path, deep_png(values))))[..., 0]
        assert found.tolist() == [[0, 7, 128, 255], [0, 1, 1, 254]]

    def test_sixteen_bit_tiff_and_pgm_agree_with_png(self, tmp_path: Path) -> None:
        values = np.array([[0, 1000, 30000, 65535]], np.uint16)
        expected = np.asarray(read_image(written(tmp_path, deep_png(values))))
        tiff = encoded(Image.fromarray(values), "TIFF")
        pgm = b"P5 4 1 65535\n" + values.astype(">u2").tobytes()
        for content in (tiff, pgm):
            assert np.array_equal(np.asarray(read_image(written(tmp_path, content))), expected)

    def test_tiff_in_which_zero_is_white_is_turned_whatever_its_depth(self, tmp_path: Path) -> None:
        shares = np.array([[0, 10, 128, 255]])
        for kind, white in ((np.uint8, 255), (np.uint16, 65535)):
            stored = Image.fromarray((white - shares * (white // 255)).astype(kind))
            photometric = {262: 0}  # TIFF 6.0, PhotometricInterpretation: WhiteIsZero
            content = encoded(stored, "TIFF", tiffinfo=photometric)
            assert Image.open(io.BytesIO(content)).tag_v2[262] == 0
            if kind is np.uint8:  # of 8 bits Pillow turns the values as it writes, too
                content = encoded(Image.fromarray(shares.astype(kind)), "TIFF", tiffinfo=photometric)
            found = np.asarray(read_image(written(tmp_path, content)))[0, :, 0]
            assert found.tolist() == [0, 10, 128, 255]

    @pytest.mark.parametrize(("bits", "told"), [(10, True), (12, True), (14, True), (15, False), (16, False)])
    @pytest.mark.parametrize("kind", ["gray PNG", "gray TIFF", "RGB PNG"])
    def test_sixteen_bit_files_that_use_fewer_bits_are_told(self, kind: str, bits: int, told: bool) -> None:
        values = np.array([[0, 1, 2**bits - 1]], np.uint16)
        content = {
            "gray PNG": lambda: deep_png(values),
            "gray TIFF": lambda: encoded(Image.fromarray(values), "TIFF"),
            "RGB PNG": lambda: deep_png(values[..., None].repeat(3, axis=2)),
        }[kind]()
        assert (examine_image(content).note is not None) is told

    def test_a_dark_photo_of_eight_bits_is_not_told(self) -> None:
        assert examine_image(encoded(Image.new("RGB", (8, 8), (3, 3, 3)))).note is None

    def test_floating_point_tiff_has_white_at_one(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.array([[0.0, 0.2, 1.0]], np.float32))
        found = np.asarray(read_image(written(tmp_path, encoded(image, "TIFF"))))[..., 0]
        assert found.tolist() == [[0, 51, 255]]

    def test_floating_point_beyond_white_is_unreadable_and_says_its_range(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.array([[0.0, 200.0]], np.float32))
        with pytest.raises(ImageError, match="from 0 to 200, where black is 0 and white is 1"):
            read_image(written(tmp_path, encoded(image, "TIFF")))

    def test_transparent_pixels_are_composited_over_white(self, tmp_path: Path) -> None:
        image = Image.new("RGBA", (3, 1))
        image.putdata([(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 51)])  # 51 / 255 = a fifth of black over white
        assert pixels(read_image(written(tmp_path, encoded(image)))) == [
            [(255, 0, 0), (255, 255, 255), (204, 204, 204)]
        ]

    def test_a_palette_gives_its_colours_and_its_transparent_entry_white(self, tmp_path: Path) -> None:
        image = Image.new("P", (3, 1))
        image.putpalette([10, 20, 30, 200, 100, 50, 1, 2, 3])
        image.putdata([0, 1, 2])
        assert pixels(read_image(written(tmp_path, encoded(image)))) == [[(10, 20, 30), (200, 100, 50), (1, 2, 3)]]
        see_through = encoded(image, transparency=1)
        assert pixels(read_image(written(tmp_path, see_through))) == [[(10, 20, 30), (255, 255, 255), (1, 2, 3)]]

    def test_one_bit_images_are_black_and_white(self, tmp_path: Path) -> None:
        image = Image.new("1", (2, 1))
        image.putpixel((1, 0), 1)
        assert pixels(read_image(written(tmp_path, encoded(image)))) == [[(0, 0, 0), (255, 255, 255)]]

    @pytest.mark.parametrize(
        ("ink", "rgb"),
        [((0, 0, 0, 0), (255, 255, 255)), ((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 255), (0, 0, 0))],
    )
    def test_cmyk_jpeg_without_a_profile(self, tmp_path: Path, ink: tuple[int, ...], rgb: tuple[int, ...]) -> None:
        content = encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95)
        found = np.asarray(read_image(written(tmp_path, content)), np.int16)
        assert np.abs(found - rgb).max() <= 3  # JPEG's own loss

    def test_cmyk_with_a_profile_of_no_use_is_read_as_without(self, tmp_path: Path) -> None:
        image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        plain = np.asarray(read_image(written(tmp_path, encoded(image, "JPEG"))))
        for profile in (b"no profile", srgb):
            content = encoded(image, "JPEG", icc_profile=profile)
            assert np.array_equal(np.asarray(read_image(written(tmp_path, content))), plain)

    def test_the_first_frame_of_an_animation_counts(self, tmp_path: Path) -> None:
        first, second = Image.new("RGB", (2, 2), "red"), Image.new("RGB", (2, 2), "blue")
        content = encoded(first, "GIF", save_all=True, append_images=[second])
        assert pixels(read_image(written(tmp_path, content)))[0][0] == (255, 0, 0)


class TestOrientation:
    # stored a b c / d e f; what each orientation shows, from the EXIF specification's row and column table
    SHOWN: ClassVar = {
        1: ["abc", "def"],
        2: ["cba", "fed"],
        3: ["fed", "cba"],
        4: ["def", "abc"],
        5: ["ad", "be", "cf"],
        6: ["da", "eb", "fc"],
        7: ["fc", "eb", "da"],
        8: ["cf", "be", "ad"],
    }

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    @pytest.mark.parametrize("orientation", SHOWN)
    def test_pixels_and_size_are_upright(self, tmp_path: Path, orientation: int, kind: str) -> None:
        stored = Image.fromarray(np.array([[ord(c) for c in row] for row in ("abc", "def")], np.uint8))
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        content = encoded(stored, kind, exif=exif)
        found = read_image(written(tmp_path, content))
        assert ["".join(map(chr, row)) for row in np.asarray(found)[..., 0]] == self.SHOWN[orientation]
        assert image_size(content) == found.size

    @pytest.mark.parametrize("value", [6, 1])
    def test_the_size_of_a_jpeg_is_that_of_the_whole_upright_image(self, value: int) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = value
        content = encoded(noise(61, 47), "JPEG", exif=exif)
        assert image_size(content) == ((47, 61) if value == 6 else (61, 47))

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF")
    @pytest.mark.parametrize("exif", [b"Exif\0\0rubbish, no TIFF header", b"Exif\0\0II*\0\xff\xff\xff\xff"])
    def test_broken_exif_turns_nothing(self, tmp_path: Path, exif: bytes) -> None:
        content = encoded(noise(), "JPEG", exif=exif)
        assert read_image(written(tmp_path, content)).size == (64, 48)
        assert image_size(content) == (64, 48)

    @pytest.mark.parametrize("value", [0, 9, 65535])
    def test_an_orientation_that_does_not_exist_turns_nothing(self, tmp_path: Path, value: int) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = value
        assert read_image(written(tmp_path, encoded(noise(), "JPEG", exif=exif))).size == (64, 48)


class TestBadFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="no such file") as caught:
            read_image(str(tmp_path / "gone.jpg"))
        assert caught.value.status == "unreadable"
        assert "gone.jpg" in caught.value.reason

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="is a folder"):
            read_image(str(tmp_path))

    def test_empty(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"empty \(0 bytes\)"):
            read_image(written(tmp_path, b""))

    @pytest.mark.parametrize("content", [b"<html>not found</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\0" * 100])
    def test_no_image(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(ImageError, match="not an image in a known format"):
            read_image(written(tmp_path, content, "renamed.jpg"))

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("JPEG", {}),
            ("JPEG", {"progressive": True}),
            ("PNG", {}),
            ("WEBP", {"lossless": True}),
            ("TIFF", {}),
            ("BMP", {}),
            ("GIF", {}),
        ],
    )
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_truncated_is_found_by_decoding_and_by_asking_for_the_size(
        self, tmp_path: Path, kind: str, options: dict[str, object], share: float
    ) -> None:
        whole = encoded(noise(), kind, **options)
        cut = whole[: int(len(whole) * share)]
        with pytest.raises(ImageError) as caught:
            read_image(written(tmp_path, cut))
        assert caught.value.status == "unreadable"
        with pytest.raises(ImageError):
            image_size(cut)

    def test_the_reason_names_truncation_and_format(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="truncated or damaged JPEG file: image file is truncated"):
            read_image(written(tmp_path, encoded(noise(), "JPEG")[:-200]))

    def test_a_png_whose_pixels_are_damaged(self, tmp_path: Path) -> None:
        content = bytearray(encoded(noise()))
        content[len(content) // 2] ^= 0xFF
        with pytest.raises(ImageError, match="truncated or damaged PNG"):
            read_image(written(tmp_path, bytes(content)))

    def test_a_bomb_is_refused_with_numbers_and_before_decoding(self, tmp_path: Path) -> None:
        content = encoded(Image.new("1", (200, 100)))
        with pytest.raises(ImageError, match=r"200 x 100 = 20000 pixels, above the limit of 19999"):
            read_image(written(tmp_path, content), max_pixels=19_999)
        assert read_image(written(tmp_path, content), max_pixels=20_000).size == (200, 100)
        with pytest.raises(ImageError, match="20000 pixels"):
            image_size(content, max_pixels=19_999)

    def test_a_header_that_claims_a_huge_image_is_refused_without_a_warning(self, tmp_path: Path) -> None:
        header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
        data = struct.pack(">I", 1000) + b"IDAT" + bytes(100)
        with pytest.raises(ImageError, match="100000 x 100000 = 10000000000 pixels"):
            read_image(written(tmp_path, b"\x89PNG\r\n\x1a\n" + chunk + data))

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
    def test_a_header_that_breaks_off_names_its_format(self, tmp_path: Path, kind: str) -> None:
        with pytest.raises(ImageError, match=f"truncated or damaged {kind} header"):
            read_image(written(tmp_path, encoded(noise(), kind)[:12]))

    def test_a_large_image_below_the_limit_gives_no_warning(self) -> None:
        # 90 million pixels: Pillow itself would warn from 89,478,485 on
        assert image_size(encoded(Image.new("1", (10_000, 9_000)))) == (10_000, 9_000)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, tmp_path: Path) -> None:
        path = written(tmp_path, encoded(noise()))
        os.chmod(path, 0)
        with pytest.raises(ImageError, match="cannot be read: Permission denied"):
            read_image(path)

    def test_an_error_survives_the_way_between_processes(self) -> None:
        error = pickle.loads(pickle.dumps(ImageError("unreadable", "the file is empty")))
        assert (error.status, error.reason, str(error)) == ("unreadable", "the file is empty", "the file is empty")

    @given(
        content=st.binary(max_size=200),
        start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"]),
    )
    def test_any_bytes_are_an_image_or_an_image_error(self, content: bytes, start: bytes) -> None:
        try:
            width, height = image_size(start + content)
        except ImageError:
            return
        assert width > 0
        assert height > 0


class TestPlaces:
    def test_the_same_image_by_path_file_url_and_other_file_system(self, tmp_path: Path) -> None:
        content = encoded(noise())
        path = written(tmp_path, content)
        memory = fsspec.filesystem("memory")
        memory.pipe_file("/images/here.png", content)
        try:
            for uri in (path, f"file://{path}", "memory://images/here.png"):
                assert np.array_equal(np.asarray(read_image(uri)), np.asarray(noise()))
                assert read_bytes(uri) == content
                assert stamp_file(uri).size_bytes == len(content)
                assert stamp_file(uri).mtime_ns is not None
        finally:
            memory.rm("/images", recursive=True)

    def test_missing_on_another_file_system(self) -> None:
        for ask in (read_image, stamp_file):
            with pytest.raises(ImageError, match=r"no such file: memory://nowhere\.png"):
                ask("memory://nowhere.png")

    def test_a_url_that_no_installed_package_opens_is_an_unreadable_image(self) -> None:
        for ask in (read_image, stamp_file):
            with pytest.raises(ImageError, match=r"cannot open nonsense://a\.png: Protocol not known: nonsense"):
                ask("nonsense://a.png")

    def test_a_stamp_changes_with_the_file(self, tmp_path: Path) -> None:
        path = written(tmp_path, b"1")
        os.utime(path, ns=(5, 1_000_000_007))
        assert stamp_file(path).mtime_ns == 1_000_000_007


@given(
    values=hnp.arrays(
        np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9).map(lambda s: (*s[:2], 3))
    )
)
def test_lossless_pictures_come_back_as_they_were(values: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "lossless.png"
    path.write_bytes(encoded(Image.fromarray(values)))
    assert np.array_equal(np.asarray(read_image(str(path))), values)
    assert image_size(path.read_bytes()) == (values.shape[1], values.shape[0])
