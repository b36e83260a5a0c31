"""Version, CI, Docker and requirements against one another, so that none is changed alone."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import vit_tactile_ros

ROOT = Path(__file__).parents[1]
CI = ROOT / '.github' / 'workflows' / 'ci.yml'


@pytest.mark.parametrize(('file', 'pattern'), [
    ('package.xml', r'<version>(.+)</version>'),
    ('CMakeLists.txt', r'^project\(vit_tactile_ros VERSION (\S+)'),
    ('CITATION.cff', r'^version: (\S+)'),
    ('CHANGELOG.md', r'^## \[(\S+)\]'),  # the first section is the current version's
])
def test_one_version(file, pattern):
    """A version raised in one file only."""
    assert re.search(pattern, (ROOT / file).read_text(), re.MULTILINE)[1] == vit_tactile_ros.__version__


def test_one_maintainer():
    """Two addresses, or an invented one in a domain that belongs to somebody; .example belongs to nobody (RFC 2606)."""
    [(address, name)] = re.findall(r'<maintainer email="(.+)">(.+)</maintainer>', (ROOT / 'package.xml').read_text())
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    assert (config['metadata']['author_email'], config['metadata']['author']) == (address, name)
    assert yaml.safe_load((ROOT / 'CITATION.cff').read_text())['authors'] == [{'name': name}]
    assert address.endswith('.example')


def test_ros_packages_are_declared():
    """An import that works only because another package brings it along."""
    text = (ROOT / 'package.xml').read_text()
    ros_import = re.compile(r'^ *(?:from|import) (rclpy|launch\w*|\w+(?=\.(?:msg|srv) import))', re.MULTILINE)
    used = {name for folder in ('vit_tactile_ros', 'launch') for path in (ROOT / folder).rglob('*.py')
            for name in ros_import.findall(path.read_text())}
    assert {'rclpy', 'launch', 'rcl_interfaces'} <= used
    assert [name for name in used - {'vit_tactile_ros'} if f'depend>{name}</' not in text] == []


@pytest.mark.parametrize('path', sorted((ROOT / '.github').rglob('*.yml')), ids=lambda path: path.name)
def test_yaml_is_valid(path):
    """A duplicate key is not an error for PyYAML, but GitHub refuses it."""
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader, node):
        keys = [loader.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    Strict.add_constructor('tag:yaml.org,2002:map', mapping)
    assert yaml.load(path.read_text(), Strict)


def test_ci_runs_the_same_script_on_both_pythons_and_launches_in_both_containers():
    """The workflow and .ci/run drift apart."""
    jobs = yaml.safe_load(CI.read_text())['jobs']
    assert any(step.get('run') == '.ci/run' for step in jobs['wheels']['steps'])
    pythons = [row['python'] for row in jobs['wheels']['strategy']['matrix']['include']]
    assert {'3.11', '3.12'} <= set(pythons)
    assert jobs['ros']['strategy']['matrix']['distro'] == ['jazzy', 'lyrical']
    assert any('ros2 launch' in step.get('run', '') for step in jobs['ros']['steps'])
    assert all('timeout-minutes' in job for job in jobs.values())
    for job in jobs.values():
        for use in (step['uses'] for step in job['steps'] if 'uses' in step):
            assert re.fullmatch(r'[\w/-]+@(v\d+|[0-9a-f]{40})', use), use


def test_pythons_of_ci_are_supported():
    """CI on a Python that `make build` refuses for that distribution."""
    build = (ROOT / 'tools' / 'build.sh').read_text()
    supported = {distro: versions.split() for distro, versions in re.findall(r"(\w+)\) versions='([^']+)'", build)}
    for row in yaml.safe_load(CI.read_text())['jobs']['wheels']['strategy']['matrix']['include']:
        assert row['python'] in supported[row['distro']]


def test_files_of_docker_exist():
    """A renamed file that the Dockerfile copies, or a dev container that builds a stage which is gone."""
    text = (ROOT / 'Dockerfile').read_text()
    sources = re.findall(r'^COPY (?:--\S+ )*(\S+) ', text, re.MULTILINE)
    assert len(sources) >= 3
    assert all((ROOT / source).exists() for source in sources)
    build = json.loads((ROOT / '.devcontainer' / 'devcontainer.json').read_text())['build']
    assert (ROOT / '.devcontainer' / build['dockerfile']).is_file()
    assert f'AS {build["target"]}\n' in text


def test_distributions_install_the_same_ros_packages():
    """A ROS package added for one only; python_cmake_module ended with Jazzy, ament_cmake_ros_core is new."""
    def named(distro: str) -> set[str]:
        text = (ROOT / f'requirements-{distro}.txt').read_text()
        return set(re.findall(rf'^ros-{distro}-([\w\[\]-]+)==', text, re.MULTILINE))

    assert named('jazzy') - named('kilted') <= {'python-cmake-module'}
    assert named('kilted') - named('jazzy') <= {'ament-cmake-ros-core'}


@pytest.mark.parametrize(('lock', 'sources'), [
    ('python', ('requirements.txt', 'constraints.txt')), ('jazzy', ('requirements-jazzy.txt',)),
    ('kilted', ('requirements-kilted.txt',))])
def test_every_pinned_package_has_its_hashes(lock, sources):
    """A version that was changed without `make hashes`: `make build` would install the old one first."""
    def pins(text: str) -> set[str]:
        return {f'{re.sub("[-_.]+", "-", name).lower()}=={version}' for name, version
                in re.findall(r'^([\w.-]+)(?:\[[\w,]+\])?==([^\s;]+)', text, re.MULTILINE)}

    wanted = set().union(*(pins((ROOT / source).read_text()) for source in sources))
    text = (ROOT / 'hashes' / f'{lock}.txt').read_text()
    entries = re.split(r'^(?=\S+==)', text, flags=re.MULTILINE)[1:]
    assert {pin for pin in wanted if not pin.startswith('torch==')} == set().union(*map(pins, entries))
    assert all('--hash=sha256:' in entry for entry in entries)


@pytest.mark.parametrize('distro', ['humble', 'no such'])
def test_build_refuses_a_distribution_that_is_not_on_the_index(distro):
    """pip's error about requirements-humble.txt in place of what there is."""
    build = subprocess.run(['bash', ROOT / 'tools' / 'build.sh'],
                           env={'VIT_ROS_DISTRO': distro, 'PATH': '/usr/bin:/bin'},
                           capture_output=True, text=True)
    assert build.returncode == 1
    assert build.stderr.startswith(f'vit_tactile_ros: ROS_DISTRO={distro}: ')
    assert 'jazzy and kilted' in build.stderr
    assert build.stderr.count('\n') == 1
