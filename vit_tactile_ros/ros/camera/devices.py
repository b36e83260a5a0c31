"""The USB cameras of this machine, found by serial number in sysfs: no library, and no device is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vit_tactile_ros.foundation.errors import RunError

SYSFS = Path('/sys/class/video4linux')
BY_PATH = Path('/dev/v4l/by-path')  # udev's links, named after the USB port


class CameraError(RunError):
    """The camera, or the file played as one, is not readable now; it may be later."""


@dataclass(frozen=True)
class Camera:
    """One attached camera."""

    path: Path  # /dev/video0
    name: str
    serial: str  # '' where the camera has none
    port: str  # of the USB device: '1-2.3'

    def __str__(self) -> str:
        serial = f'serial {self.serial}' if self.serial else 'no serial number'
        return f'{self.path} ({self.name}, {serial}, USB port {self.port or "unknown"})'


def attached(sysfs: Path = SYSFS) -> list[Camera]:
    """The capture device of every camera, in the order of their numbers."""
    cameras = []
    for entry in sorted(sysfs.glob('video*'), key=lambda path: (len(path.name), path.name)):
        if _text(entry / 'index') not in ('', '0'):  # the further nodes of a UVC camera hold metadata
            continue
        usb = next((folder for folder in entry.resolve().parents if (folder / 'idVendor').is_file()), None)
        cameras.append(Camera(Path('/dev') / entry.name, _text(entry / 'name'), _text(usb / 'serial') if usb else '',
                              usb.name if usb else ''))
    return cameras


def listed(cameras: list[Camera]) -> str:
    """For messages."""
    return f'attached: {"; ".join(map(str, cameras))}' if cameras else 'no camera is attached'


def find(serial: str, sysfs: Path = SYSFS, by_path: Path = BY_PATH) -> Path:
    """The device of the camera of that USB serial number, whatever its case and hyphens (labels have some).

    Raises CameraError where it is not attached, or attached twice.
    """
    cameras = attached(sysfs)
    found = [camera for camera in cameras if _plain(camera.serial) == _plain(serial)]
    if len(found) == 1:
        return found[0].path
    if not found:
        raise CameraError(f'no camera has serial number {serial!r}; {listed(cameras)}')
    links = [str(link) for camera in found for link in sorted(by_path.glob('*index0'))
             if link.resolve().name == camera.path.name]
    raise CameraError(f'{len(found)} cameras have serial number {serial!r} ({listed(found)}); in place of serial give '
                      f'one by its USB port, device:={" or device:=".join(links) or f"{by_path}/..."}')


def existing(device: str, sysfs: Path = SYSFS) -> Path:
    """A path given by the user; raises CameraError where it does not exist, or is not a device."""
    path = Path(device)
    if not path.exists():
        raise CameraError(f'{device} does not exist; {listed(attached(sysfs))}')
    if not path.is_char_device():
        raise CameraError(f'{device} is not a device; to play a file or folder use the parameter video')
    return path


def _plain(serial: str) -> str:
    return serial.replace('-', '').upper()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8', errors='replace').strip()
    except OSError:  # no such property, or the camera has just been unplugged
        return ''
