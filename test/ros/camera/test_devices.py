"""Cameras found in sysfs: the tree of files that the kernel shows, in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from vit_tactile_ros.ros.camera.devices import Camera, CameraError, attached, existing, find


def plug_in(root: Path, number: int, port: str, serial: str, name: str = 'DIGIT: DIGIT') -> None:
    """A UVC camera as in /sys: a capture node, a metadata node after it, and links from class/ to them."""
    usb = root / 'devices' / 'usb1' / port
    usb.mkdir(parents=True)
    (usb / 'idVendor').write_text('2833\n')
    if serial:
        (usb / 'serial').write_text(f'{serial}\n')
    (root / 'class').mkdir(exist_ok=True)
    for index in (0, 1):
        node = usb / f'{port}:1.0' / 'video4linux' / f'video{number + index}'
        node.mkdir(parents=True)
        (node / 'name').write_text(f'{name}\n')
        (node / 'index').write_text(f'{index}\n')
        (root / 'class' / node.name).symlink_to(node)


def test_each_camera_is_listed_once(tmp_path):
    """Not its metadata node, which opens and never sends an image; and video10 comes after video2."""
    plug_in(tmp_path, 10, '1-3', 'D20026')
    plug_in(tmp_path, 2, '1-2.4', '', 'HD Webcam')
    assert attached(tmp_path / 'class') == [Camera(Path('/dev/video2'), 'HD Webcam', '', '1-2.4'),
                                            Camera(Path('/dev/video10'), 'DIGIT: DIGIT', 'D20026', '1-3')]


@pytest.mark.parametrize('serial', ['2BNN4ZE7', '2BNN-4ZE7', '2bnn-4ze7'])
def test_found_by_serial(tmp_path, serial):
    """The label of a GelSight Mini has a hyphen, its USB serial number has none."""
    plug_in(tmp_path, 0, '1-1', 'D20025')
    plug_in(tmp_path, 4, '1-2', '2BNN4ZE7', 'GelSight Mini R0B 2BNN-4ZE7')
    assert find(serial, tmp_path / 'class') == Path('/dev/video4')


def test_not_attached_lists_what_is(tmp_path):
    plug_in(tmp_path, 0, '1-1', 'D20025')
    with pytest.raises(CameraError, match=r"no camera has serial number 'D20052'; attached: /dev/video0 "
                                          r'\(DIGIT: DIGIT, serial D20025, USB port 1-1\)'):
        find('D20052', tmp_path / 'class')
    with pytest.raises(CameraError, match='no camera is attached'):
        find('D20052', tmp_path / 'nothing')


def test_two_of_one_serial_are_refused_with_the_way_to_choose(tmp_path):
    """The first one found was opened, and after a restart the other."""
    by_path = tmp_path / 'by-path'
    by_path.mkdir()
    for number, port in ((0, '1-1'), (2, '1-2')):
        plug_in(tmp_path, number, port, 'SN0001')
        for index in (0, 1):
            (by_path / f'pci-0000:00:14.0-usb-0:{port[2:]}:1.0-video-index{index}').symlink_to(
                f'../../video{number + index}')
    with pytest.raises(CameraError) as raised:
        find('SN0001', tmp_path / 'class', by_path)
    assert "2 cameras have serial number 'SN0001'" in str(raised.value)
    assert (f'device:={by_path}/pci-0000:00:14.0-usb-0:1:1.0-video-index0 or '
            f'device:={by_path}/pci-0000:00:14.0-usb-0:2:1.0-video-index0') in str(raised.value)


def test_cameras_without_a_serial_do_not_match(tmp_path):
    plug_in(tmp_path, 0, '1-1', '')
    with pytest.raises(CameraError, match='no serial number'):
        find('D20025', tmp_path / 'class')


def test_a_path_has_to_be_a_device(tmp_path):
    plug_in(tmp_path, 0, '1-1', 'D20025')
    (tmp_path / 'clip.avi').touch()
    assert existing('/dev/null') == Path('/dev/null')
    with pytest.raises(CameraError, match='does not exist; attached: /dev/video0'):
        existing(str(tmp_path / 'video7'), tmp_path / 'class')
    with pytest.raises(CameraError, match='use the parameter video'):
        existing(str(tmp_path / 'clip.avi'))
