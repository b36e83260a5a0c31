"""Settings of Fast DDS for processes that publish or receive large images; other middleware is not affected."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

OLD_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'  # Fast DDS 2.x reads this one, 3.x (from Kilted on) the other
NEW_VARIABLE = 'FASTDDS_DEFAULT_PROFILES_FILE'
PUBLISHER_PROFILE = 'fastdds_large_images.xml'
# The two versions use different names for the same element, and refuse a file with the other's.
CLASSIFIER_PROFILES = {OLD_VARIABLE: 'fastdds2_classifier.xml', NEW_VARIABLE: 'fastdds3_classifier.xml'}
SEGMENT = 32 * 2**20  # bytes, as in PUBLISHER_PROFILE
SHARED_MEMORY = '/dev/shm'

# With any of these the user has configured Fast DDS, and a profile of ours would replace it or be mixed with it.
USERS_OWN = (OLD_VARIABLE, NEW_VARIABLE, 'FASTDDS_BUILTIN_TRANSPORTS', 'RMW_FASTRTPS_USE_QOS_FROM_XML')
USERS_FILES = ('DEFAULT_FASTRTPS_PROFILES.xml', 'DEFAULT_FASTDDS_PROFILES.xml')  # read from the working folder


def shipped_profile(name: str) -> Path | None:
    """Path of a file of config/, in a source tree or a ROS install space; None if the installation lacks it."""
    for folder in Path(__file__).parents:
        for path in (folder / 'share' / 'vit_tactile_ros' / 'config' / name, folder / 'config' / name):
            if path.is_file():
                return path
    return None


def is_fast_dds(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment selects Fast DDS, the default of ROS 2."""
    return environment.get('RMW_IMPLEMENTATION', '') in ('', 'rmw_fastrtps_cpp', 'rmw_fastrtps_dynamic_cpp')


@contextlib.contextmanager
def publisher_profile() -> Iterator[None]:
    """Create the first node inside: its process then has shared memory for large images.

    Does nothing if the user has configured Fast DDS, or if /dev/shm has no space: Fast DDS would print three lines of
    error before it uses its default.
    """
    with _profiles({OLD_VARIABLE: PUBLISHER_PROFILE, NEW_VARIABLE: PUBLISHER_PROFILE} if _has_room() else {}):
        yield


@contextlib.contextmanager
def classifier_profile() -> Iterator[None]:
    """Create the first node inside: large images that a reliable publisher sends in pieces then arrive sooner."""
    with _profiles(CLASSIFIER_PROFILES):
        yield


@contextlib.contextmanager
def _profiles(names: Mapping[str, str]) -> Iterator[None]:
    """The variables are set only inside it: Fast DDS reads them once, and child processes must not inherit them."""
    paths = {variable: shipped_profile(name) for variable, name in names.items()}
    if not is_fast_dds() or _is_configured_by_user() or None in paths.values():
        yield
        return
    os.environ.update({variable: str(path) for variable, path in paths.items()})
    try:
        yield
    finally:
        for variable in paths:
            os.environ.pop(variable, None)


def _is_configured_by_user() -> bool:
    return any(os.environ.get(name) for name in USERS_OWN) or any(Path(name).is_file() for name in USERS_FILES)


def _has_room() -> bool:
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize >= 2 * SEGMENT
