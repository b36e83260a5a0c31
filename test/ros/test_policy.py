"""The SROS2 policy allows what the nodes use, no less and no more."""

from __future__ import annotations

import re
from functools import partial
from xml.etree import ElementTree

from documentation import ROOT
from live_nodes import wait_until
from toy_clips import write_clip

POLICY = ROOT / 'config' / 'sros2' / 'policy.xml'
# Only there with another parameter, with vision_msgs, or with a class without contact.
OPTIONAL = re.compile(r'/clock|/(left|right)/(slip/)?(image_raw/compressed|classification|label_info|touch_event)')
OUTPUTS = ('tactile', 'touch_event', 'annotated', 'classification', 'label_info')
SLIP_NODE = ['-r', '__node:=slip_detector'] + [word for sensor in ('left', 'right') for topic in OUTPUTS
                                               for word in ('-r', f'{sensor}/{topic}:={sensor}/slip/{topic}')]
OTHER_CAMERAS = ('/image_raw', '/right/image_raw')
KINDS = {'topics publish': 'publisher', 'topics subscribe': 'subscriber', 'services reply': 'service',
         'services request': 'client'}


def allowed(node: str) -> dict[str, set[str]]:
    """Full names by kind, as the policy has them for a node in the root namespace."""
    found: dict[str, set[str]] = {kind: set() for kind in KINDS.values()}
    [profile] = ElementTree.parse(POLICY).iterfind(f"./enclaves/enclave[@path='/{node}']/profiles/profile")
    assert profile.get('node') == node and profile.get('ns') == '/'
    for group in profile:
        for access, value in group.items():
            assert value == 'ALLOW'
            names = [(entry.text or '').strip() for entry in group]
            full = {re.sub('^~', f'/{node}', name) if name[0] in '/~' else f'/{name}' for name in names}
            assert len(full) == len(names), 'a name twice'
            found[KINDS[f'{group.tag} {access}']] |= full
    return found


def offered(client, node: str) -> dict[str, set[str]]:
    return {kind: {name for name, _ in getattr(client, f'get_{kind}_names_and_types_by_node')(node, '/')}
            for kind in KINDS.values()}


def has_all(client, node: str, needed: set[tuple[str, str]]) -> bool:
    if (node, '/') not in client.get_node_names_and_namespaces():
        return False
    real = offered(client, node)
    return all(name in real[kind] for kind, name in needed)


def test_the_policy_lists_what_the_nodes_offer(classifier, client, start, states_checkpoint, tmp_path):
    """A topic or service that is added and then refused under SROS2, or left open to everyone."""
    classifier(sensors='[left, right]')
    classifier(*SLIP_NODE, sensors='[left, right]', checkpoint=states_checkpoint)  # as reflex.launch.py
    start('camera_node', video=write_clip(tmp_path / 'clip.avi', 20), loop=True, camera_name='left')
    for node in ('tactile_classifier', 'slip_detector', 'tactile_camera'):
        policy = allowed(node)
        needed = {(kind, name) for kind, names in policy.items() for name in names if not OPTIONAL.fullmatch(name)
                  and not (node == 'tactile_camera' and name in OTHER_CAMERAS)}
        wait_until(partial(has_all, client, node, needed), partial(str, needed))
        for kind, names in offered(client, node).items():
            assert names <= policy[kind], (node, kind)
    classifiers = [allowed('tactile_classifier'), allowed('slip_detector')]
    assert allowed('tactile_operator')['client'] == set.union(*(policy['service'] for policy in classifiers))
    reader = allowed('tactile_reader')
    assert not reader['client'] and reader['subscriber'] - {'/clock'} < set.union(
        *(policy['publisher'] for policy in classifiers))
    assert '/left/slip/touch_event' in reader['subscriber'] - classifiers[0]['publisher']
