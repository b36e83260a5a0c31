"""Sphinx configuration: `make docs` builds docs/ and the README into build/docs."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

project = 'vit_tactile_ros'
author = 'vit_tactile_ros authors'
release = re.search(r"__version__ = '(.*)'", (ROOT / project / '__init__.py').read_text(encoding='utf-8'))[1]

extensions = ['myst_parser']
myst_heading_anchors = 3  # the anchors that GitHub gives headings, so that links work in both places
html_theme = 'furo'
html_title = f'{project} {release}'
html_copy_source = False

# The sidebar. Added here and not in index.md, which would show it as a code block on GitHub.
NAVIGATION = {
    'Guides': ['guides/your_sensor', 'guides/gelsight_mini', 'guides/digit', 'guides/any_camera', 'guides/train',
               'guides/recordings', 'guides/speed', 'guides/onnx', 'guides/ros', 'guides/slip',
               'guides/troubleshooting'],
    'Reference': ['reference/parameters', 'reference/messages', 'reference/commands', 'reference/glossary'],
    'Results': ['results/learning', 'results/touchbench', 'results/performance', 'results/node_latency',
                'results/touch_events', 'results/slip', 'results/gate', 'results/unknown', 'results/generated',
                'results/adapt', 'results/tokens', 'results/exits', 'results/transport', 'results/coverage',
                'results/soak', 'results/memory', 'faults'],
    'Development': ['architecture', 'security', 'fuzzing', 'reference/modules'],
}


def add_navigation(app, page, source):
    if page == 'index':
        source[0] += ''.join(f'\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{chr(10).join(pages)}\n```\n'
                             for caption, pages in NAVIGATION.items())


def setup(app):
    app.connect('source-read', add_navigation)
    return {'parallel_read_safe': True}
