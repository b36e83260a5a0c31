"""Arrays of files from outside: no object, and no more memory than the file may claim."""

import io
import zipfile

import numpy as np
import pytest

from vit_tactile_ros.inference.arrays import LARGEST, read_arrays


def test_what_numpy_wrote_is_read(tmp_path):
    arrays = {'text': np.array('é'), 'frame': np.arange(24, dtype=np.float32).reshape(2, 3, 4),
              'fortran': np.asfortranarray(np.arange(6).reshape(2, 3)), 'empty': np.empty((0, 3)), 'one': np.array(5)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / 'a.npz', **arrays)
        found = read_arrays(tmp_path / 'a.npz')
        assert found.keys() == arrays.keys()
        for name, values in arrays.items():
            np.testing.assert_array_equal(found[name], values)
            assert found[name].dtype == values.dtype and found[name].flags.writeable


def header(shape, descr, data=b''):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {'descr': descr, 'fortran_order': False, 'shape': shape})
    return file.getvalue() + data


@pytest.mark.parametrize(('member', 'message'), (
    (header((10**12,), '<f4'), 'take 4000000000000'), (header((2, 3), '|O', bytes(48)), 'object'),
    (header((2,), '<U1', b'\xff' * 8), 'does not exist'), (header((-1,), '<f4'), 'take -4'),
    (header((5,), '|V0'), 'numbers or texts'), (b'\x93NUMPY\x01\x00\xff\xff' + b'(' * 9000, '.'), (b'', '.'),
    (bytes(LARGEST), '.'), (b'\x93NUMPY\x03\x00' + bytes(99), 'version')))
def test_a_claim_is_refused(tmp_path, member, message):
    """numpy.load allocates what the header claims; a text of such characters raised SystemError where it was used."""
    path = tmp_path / 'a.npz'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a.npy', member)
    with pytest.raises(ValueError, match=message):
        read_arrays(path)


def test_a_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / 'a.npz'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr('a.npy', header((LARGEST,), '|u1', bytes(LARGEST)))
    with pytest.raises(ValueError, match='would unpack to'):
        read_arrays(path)
    np.savez(path, a=np.zeros(LARGEST + 1, np.uint8))  # it takes as much on the disk
    assert read_arrays(path)['a'].size == LARGEST + 1
