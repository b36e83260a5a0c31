"""The no-contact reference: averaged from the first frames, captured again on demand, or fixed."""

import numpy as np
import PIL.Image
import pytest

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.image_file import read_image
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.inference.reference import Reference, fixed_references
from vit_tactile_ros.model import PreprocessingConfig


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 4, 6, 3), np.uint8)


def test_the_reference_is_the_mean_of_the_first_frames():
    """A sum in uint8 that wraps, a mean of the last frames, or frames after completion still taken in."""
    reference = Reference(num_frames=4)
    assert reference.frame is None and not reference.is_complete
    gathered = frames(7)
    for count, image in enumerate(gathered, start=1):
        assert reference.update(image) == (count == 4)
        assert reference.is_complete == (count >= 4)
        np.testing.assert_allclose(reference.frame, gathered[:min(count, 4)].astype(float).mean(axis=0), atol=1e-3)
    assert not reference.is_fixed


def test_a_mean_handed_out_does_not_change():
    """The mean updated in place: a batch that waits would be classified with another reference than was given."""
    reference = Reference(num_frames=3)
    first, second = frames(2)
    reference.update(first)
    handed_out = reference.frame
    reference.update(second)
    np.testing.assert_array_equal(handed_out, first)
    assert not np.array_equal(reference.frame, first)


def test_the_reference_does_not_share_a_frames_memory():
    """A message's buffer that is used again for the next frame."""
    reference = Reference(num_frames=1)
    image = frames(1)[0].copy()
    reference.update(image)
    before = image.copy()
    image[:] = 0
    np.testing.assert_array_equal(reference.frame, before)


def test_recapture_starts_over():
    """Old frames that stay in the mean after the sensor was moved or another gel mounted."""
    reference = Reference(num_frames=2)
    old, new = frames(4)[:2], frames(4)[2:]
    for image in old:
        reference.update(image)
    reference.recapture()
    assert reference.frame is None and not reference.is_complete
    assert [reference.update(image) for image in new] == [False, True]
    np.testing.assert_allclose(reference.frame, new.astype(float).mean(axis=0), atol=1e-3)


def test_a_fixed_picture_stays_until_recapture():
    """A image from a file that live frames are mixed into, or that can't be replaced."""
    picture, image = frames(2)
    reference = Reference(num_frames=1, fixed=picture)
    assert reference.is_fixed and reference.is_complete
    assert not reference.update(image)
    np.testing.assert_array_equal(reference.frame, picture)
    reference.recapture()
    assert not reference.is_fixed and reference.frame is None
    assert reference.update(image)
    np.testing.assert_array_equal(reference.frame, image)


@pytest.mark.parametrize('num_frames', (0, -1))
def test_at_least_one_frame(num_frames):
    """A reference that is complete before it has seen anything."""
    with pytest.raises(ValueError, match=f'num_frames is {num_frames}'):
        Reference(num_frames)


def test_the_channels_lie_apart():
    """A reference laid out as images are, which `normalise` takes half as long again to subtract."""
    for reference in (Reference(3), Reference(1, fixed=frames(1)[0])):
        for image in frames(3):
            reference.update(image)
            assert reference.frame.transpose(2, 0, 1).flags.c_contiguous and reference.frame.dtype == np.float32


CONFIG = PreprocessingConfig(image_size=(24, 32), reference='difference')


def jpeg(path, orientation: int | None = None):
    """A real photo's bytes, with what a phone's EXIF says."""
    image = PIL.Image.fromarray(np.full((48, 64, 3), (150, 90, 60), np.uint8))
    exif = PIL.Image.Exif()
    if orientation:
        exif[274] = orientation
    image.putpixel((3, 2), (255, 0, 0))
    image.save(path, quality=95, exif=exif)
    return path


def test_reference_files_are_read_as_training_images_are(tmp_path):
    """EXIF turned a reference but not the training images; a phone's trailer must not matter either."""
    plain, turned = jpeg(tmp_path / 'plain.jpg'), jpeg(tmp_path / 'turned.jpg', 6)
    turned.write_bytes(turned.read_bytes() + b'trailer\xff\xd9')
    given = fixed_references([str(plain), '', str(turned)], ['a', 'b', 'c'], CONFIG)
    assert given[1] is None
    np.testing.assert_array_equal(given[0], fit(read_image(plain), CONFIG))
    np.testing.assert_array_equal(given[2], fit(read_image(turned), CONFIG))
    np.testing.assert_array_equal(given[2], fit(np.rot90(read_image(plain), -1), CONFIG))


@pytest.mark.parametrize(('damage', 'said'), (
    (lambda data: data[:len(data) // 2], 'truncated'), (lambda data: b'', 'data starts with nothing'),
    (lambda data: b'text', 'must be JPEG or PNG'), (None, 'No such file')), ids=('cut', 'empty', 'text', 'gone'))
def test_a_reference_that_cannot_be_read_is_named(tmp_path, damage, said):
    """Cut JPEGs were taken half grey, and some files ended in cv2.error."""
    path = jpeg(tmp_path / 'gel.jpg')
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf'reference_files: .*gel\.jpg.*{said}'):
        fixed_references([str(path)], ['left'], CONFIG)


def test_a_folder_as_reference_is_named(tmp_path):
    with pytest.raises(UserError, match='reference_files: .* is not a regular file'):
        fixed_references([str(tmp_path)], ['left'], CONFIG)
    with pytest.raises(UserError, match='has 1 entries; must be one per sensor'):
        fixed_references(['a.png'], ['left', 'right'], CONFIG)
