"""Images of every kind become upright BGR of 8 bits, or a sentence."""

import cv2
import numpy as np
import pytest
from PIL import Image

from revcol_backbone.inference import read_image

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3
GRAY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
EXIF_ORIENTATION = 0x0112


def save(tmp_path, image, name='image.png', **options):
    path = tmp_path / name
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(path, **options)
    return path


def as_color(gray):
    return np.repeat(gray[:, :, None], 3, 2)


def test_a_color_image_is_bgr_from_a_path_a_string_or_bytes(tmp_path):
    path = save(tmp_path, RGB)
    for source in (path, str(path), path.read_bytes()):
        image = read_image(source)
        assert (image.dtype, image.flags.c_contiguous) == (np.uint8, True)
        assert np.array_equal(image, RGB[:, :, ::-1])


@pytest.mark.parametrize('mode', ['L', 'P', 'LA'])
def test_gray_becomes_color(mode, tmp_path):
    image = read_image(save(tmp_path, Image.fromarray(GRAY).convert(mode)))
    assert np.array_equal(image, as_color(GRAY))


def test_black_and_white_become_color(tmp_path):
    image = read_image(save(tmp_path, Image.fromarray(GRAY > 127)))
    assert np.array_equal(image, as_color(np.where(GRAY > 127, 255, 0)))


def test_the_colors_of_a_palette_are_looked_up(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), 'P')
    image.putpalette([255, 0, 0, 0, 0, 255])
    assert read_image(save(tmp_path, image)).tolist() == [[[0, 0, 255], [255, 0, 0]]]


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.pgm'])
def test_16_bits_of_gray_become_8(suffix, tmp_path):
    path = tmp_path / f'image{suffix}'
    cv2.imwrite(str(path), GRAY.astype(np.uint16) * 257)
    assert np.array_equal(read_image(path), as_color(GRAY))


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_16_bits_of_color_become_8(suffix, tmp_path):
    path = tmp_path / f'image{suffix}'
    cv2.imwrite(str(path), RGB[:, :, ::-1].astype(np.uint16) * 257)
    assert np.array_equal(read_image(path), RGB[:, :, ::-1])


def test_transparent_pixels_lie_on_white(tmp_path):
    rgba = np.dstack([RGB, np.full((4, 6), 255, np.uint8)])
    rgba[0, 0, 3] = 0
    image = read_image(save(tmp_path, rgba))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(image[1:], RGB[1:, :, ::-1])


def test_cmyk_and_the_first_frame_of_an_animation(tmp_path):
    white = Image.new('CMYK', (6, 4))
    assert (read_image(save(tmp_path, white, 'image.jpg')) == 255).all()
    frames = [Image.new('RGB', (6, 4), color) for color in ('red', 'blue')]
    path = tmp_path / 'image.gif'
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert read_image(path)[0, 0].tolist() == [0, 0, 255]


def test_a_image_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6  # to be turned clockwise by a quarter
    image = read_image(save(tmp_path, RGB, exif=exif))
    assert np.array_equal(image, np.rot90(RGB, -1)[:, :, ::-1])


def test_one_pixel_is_a_image(tmp_path):
    assert read_image(save(tmp_path, RGB[:1, :1])).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'is empty; copy or download it again'),
        (b'some text', 'is not an image, or it is damaged or truncated'),
        (None, 'cannot be read: No such file'),
    ],
)
def test_what_is_no_image_is_an_error_that_names_it(content, words, tmp_path):
    path = tmp_path / 'bad.png'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        read_image(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.tif', '.bmp'])
def test_a_image_that_is_cut_short_is_an_error(suffix, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    path = save(tmp_path, noise, f'image{suffix}')
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match='damaged or truncated'):
        read_image(path)


def test_a_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='is a folder, not a file'):
        read_image(tmp_path)


def test_bytes_that_are_no_image_are_an_error():
    with pytest.raises(ValueError, match='The file is not an image'):
        read_image(b'some text')


def test_values_beyond_16_bits_are_an_error_that_gives_them(tmp_path):
    path = save(tmp_path, Image.fromarray(np.full((4, 6), 70_000, np.int32)), 'depth.tif')
    with pytest.raises(ValueError, match='its values range from 70000 to 70000; 0 to 65535 is'):
        read_image(path)
