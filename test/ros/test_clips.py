"""Real touch clips through the live node: every frame accounted for, every header that of its image.

By default one clip of each kind; TACTILE_ALL_CLIPS=1 plays all of them and prints what it measured:
    TACTILE_ALL_CLIPS=1 python -m pytest -s test/ros/test_clips.py
"""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

import pytest
from real_data import real_data

from vit_tactile_ros.model import shipped_checkpoint

FPS = 25.0
KINDS = {'gelsight_clips': '*.mov', 'gelsight_grasps/clips': '*.avi'}


def clips(kind: str) -> list[Path]:
    found = sorted(real_data(kind, KINDS[kind]).glob(KINDS[kind]))
    return found if os.environ.get('TACTILE_ALL_CLIPS') else found[:1]


@pytest.mark.parametrize('kind', KINDS)
def test_clips_are_accounted_for(kind, start, client, play):
    """classified + superseded + rejected = received, and no result with a header that no image had."""
    videos = clips(kind)
    start('classifier_node', checkpoint=shipped_checkpoint(), diagnostics_period=0.2).wait_for_output('active, waiting')
    results = client.listen()
    published = 0
    for video in videos:
        first = len(results)
        sent = {(sec, nanosec): frame_id for sec, nanosec, frame_id in play(video, FPS, 'best_effort')}
        assert len(sent) > 20
        published += len(sent)
        client.wait(lambda: settled(client, results), 'the last frames')
        for result in results[first:]:
            stamp = (result.header.stamp.sec, result.header.stamp.nanosec)
            assert sent.get(stamp) == result.header.frame_id
        assert len(results) > first
    counts = {key: client.counter(key) for key in ('received', 'classified', 'superseded', 'rejected')}
    assert counts['classified'] + counts['superseded'] + counts['rejected'] == counts['received'], counts
    assert counts['classified'] == len(results)
    assert counts['rejected'] == 0
    assert counts['received'] <= published
    ages = client.result_ages['/tactile']
    overheads = [age - result.inference_time for age, result in zip(ages, results, strict=True)]
    print(json.dumps({
        'kind': kind, 'clips': len(videos), 'published': published, **counts,
        'exits': {block: sum(r.exit_block == block for r in results) for block in (4, 8, 12)},
        'inference_ms_p50': round(1e3 * statistics.median(r.inference_time for r in results), 2),
        # From the image's publication to the receipt of its result in this process, less the network's own time.
        'overhead_ms_p50': round(1e3 * statistics.median(overheads), 2),
        'overhead_ms_p99': round(1e3 * statistics.quantiles(overheads, n=100)[-1], 2),
    }))


def settled(client, results) -> bool:
    """Nothing is waiting or under way, as of a report that has counted every result we have."""
    return client.counter('pending') == 0 and client.counter('received') > 0 and (
        client.counter('classified') == len(results)) and (
        sum(client.counter(key) for key in ('classified', 'superseded', 'rejected')) == client.counter('received'))
