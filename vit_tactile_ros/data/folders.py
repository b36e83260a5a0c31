"""Class folders of images to touches: data/[train|val|test/]class/[group/]image.png."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from pathlib import Path

from vit_tactile_ros.data.table import DataError, NamedTouch, Source, part_of

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
# Files that operating systems create in folders.
_IGNORED = ('thumbs.db', 'desktop.ini', 'ehthumbs.db')
_LAYOUT = 'must hold one folder per class with its images: data/smooth/a.png, data/rough/b.png'

logger = logging.getLogger(__name__)


def read_folders(folder: Path) -> list[NamedTouch]:
    """Touches of a folder of class folders, in the order of their paths.

    The class folders may be in train/, val/ and test/. The group is the subfolder of the class folder, or the prefix
    before '__' in the file name (if all files have one); the same name is one group even across classes. The
    reference is the nearest file named reference.png (or .jpg, ...) in the folder of the group, class, part or data.
    Hidden files are ignored; other files in the class folders too, with a logged count of their kinds. Raises
    DataError for another layout and for an empty class folder.
    """
    if tables := sorted(folder.glob('*.csv')):
        raise DataError(f'{folder} holds {tables[0].name}; give that file, or move it elsewhere to read the folders '
                        'as classes')
    parts = _subfolders(folder)
    has_parts = any(part_of(part.name) == 'train' for part in parts)
    if has_parts:
        if strange := [part.name for part in parts if part_of(part.name) is None]:
            raise DataError(f'{folder} holds train/ and {strange[0]}/; besides train/ only val/ and test/ are allowed')
        above = reference_in(folder)
        touches = [touch for part in parts for touch in _read_part(part, part_of(part.name) or '', above)]
    else:
        touches = _read_part(folder, '', None)
    _warn_of_others(folder, [c for part in parts for c in _subfolders(part)] if has_parts else parts)
    # If only some names contain '__', it is part of a name and not a separator.
    if not all(touch.group or '__' in touch.image.path.name for touch in touches):
        return touches
    return [touch if touch.group else _grouped_by_name(touch) for touch in touches]


def has_pictures(folder: Path) -> bool:
    """Whether the folder or a subfolder contains an image."""
    return any(is_picture(path) for path in folder.rglob('*'))


def _read_part(folder: Path, split: str, above: Source | None) -> list[NamedTouch]:
    classes = _subfolders(folder)
    if not classes:
        raise DataError(f'{folder} has no folders; {_LAYOUT}')
    if stray := [path for path in _pictures(folder) if path.stem.lower() != 'reference']:
        raise DataError(f'{stray[0]} is not in a class folder; {_LAYOUT}')
    above = reference_in(folder) or above
    touches = []
    for class_folder in classes:
        reference = reference_in(class_folder) or above
        found = [NamedTouch(Source(path), reference, class_folder.name, '', split)
                 for path in _pictures(class_folder) if path.stem.lower() != 'reference']
        for group in _subfolders(class_folder):
            own = reference_in(group) or reference
            found += [NamedTouch(Source(path), own, class_folder.name, group.name, split)
                      for path in _files_below(group) if is_picture(path) and path.stem.lower() != 'reference']
        if not found:
            raise DataError(f'class folder {class_folder} has no images ({", ".join(IMAGE_SUFFIXES)}); '
                            'add some, or remove the folder')
        touches += found
    return touches


def _grouped_by_name(touch: NamedTouch) -> NamedTouch:
    group = touch.image.path.name.split('__', 1)[0]
    return dataclasses.replace(touch, group=group)


def reference_in(folder: Path) -> Source | None:
    """The image named reference in it."""
    return next((Source(path) for path in _pictures(folder) if path.stem.lower() == 'reference'), None)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_picture(path))


def is_picture(path: Path) -> bool:
    """Whether it is an image by its name.

    A broken link counts too: reading it reports an error, whereas ignoring it would lose the image silently.
    """
    return (path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.')
            and (path.is_file() or (path.is_symlink() and not path.exists())))


def _files_below(folder: Path) -> list[Path]:
    """All files in it and its subfolders, except hidden ones."""
    return sorted(path for path in folder.rglob('*')
                  if not any(name.startswith('.') for name in path.relative_to(folder).parts))


def _warn_of_others(origin: Path, class_folders: list[Path]) -> None:
    """One line that counts the files that are not images by their suffix, so that none is ignored silently."""
    others = [path for folder in class_folders for path in _files_below(folder)
              if path.is_file() and not is_picture(path) and path.name.lower() not in _IGNORED]
    if not others:
        return
    kinds = Counter(path.suffix.lower() or 'without a suffix' for path in others)
    logger.warning('%s: ignored %d file%s that %s not %s, the first is %s: %s; convert them if they are images', origin,
                   len(others), 's' * (len(others) > 1), 'are' if len(others) > 1 else 'is',
                   '/'.join(suffix[1:] for suffix in IMAGE_SUFFIXES), others[0],
                   ', '.join(f'{count} {kind}' for kind, count in kinds.most_common()))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.'))
