"""The README: short, and with the two commands of a fresh machine."""

from documentation import README, commands

TEXT = README.read_text(encoding='utf-8')


def test_it_is_short():
    """Guides, reference and results are pages of docs/."""
    assert len(TEXT.splitlines()) <= 150


def test_the_two_commands_come_first():
    assert [command.text for command in commands(README)[:2]] == ['make demo', 'make test']


def test_every_guide_and_result_is_linked():
    pages = [*(README.parent / 'docs' / 'guides').glob('*.md'), *(README.parent / 'docs' / 'results').glob('*.md')]
    assert len(pages) >= 9
    assert [page.name for page in pages if f'](docs/{page.parent.name}/{page.name}' not in TEXT] == []


def test_the_classes_of_the_shipped_checkpoint_are_named():
    from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint

    assert [name for name in load_checkpoint(shipped_checkpoint()).class_names if f'`{name}`' not in TEXT] == []
