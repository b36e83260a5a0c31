"""Every kind of bad input: said in the log, counted on /diagnostics, and the next good frame is classified."""

from __future__ import annotations

import time
from array import array

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from live_nodes import image
from sensor_msgs.msg import CompressedImage, Image


def _wrong_encoding() -> Image:
    return image(1, encoding='32FC1')


def _zero_size() -> Image:
    message = image(1)
    message.width = message.step = 0
    message.data = array('B')
    return message


def _step_too_small() -> Image:
    message = image(1)
    message.step = 10
    return message


def _data_too_short() -> Image:
    message = image(1)
    message.data = message.data[:-1]
    return message


def _data_too_long() -> Image:
    message = image(1)
    message.data = message.data + array('B', [0])
    return message


def _huge() -> Image:
    message = image(1)
    message.height = 2**32 - 1
    return message


@pytest.mark.parametrize(('bad', 'reason', 'said'), [
    (_wrong_encoding, 'encoding', "encoding is '32FC1'; must be one of rgb8, bgr8"),
    (_zero_size, 'size', 'image is 0x24'),
    (_step_too_small, 'step', 'step is 10; must be at least 96'),
    (_data_too_short, 'data', 'data holds 2303 bytes; must be 2304'),
    (_data_too_long, 'data', 'data holds 2305 bytes; must be 2304'),
    (_huge, 'size', 'Mpx; must be at most 33.6 Mpx'),
])
def test_bad_image_is_rejected(classifier, client, bad, reason, said):
    """A driver's fault must not crash the node, pass as a image or go by in silence."""
    node = classifier()
    results = client.listen()
    client.send_until(bad(), lambda: client.counter(f'rejected: {reason}'), 'the counter')
    node.wait_for_output(said)
    assert not results
    client.send_until(image(2), lambda: results, 'a result of the next good frame')
    assert results[0].header.stamp.sec == 2


def test_log_is_throttled(classifier, client):
    """A driver that is wrong 30 times a second must not fill the disk with log."""
    node = classifier()
    client.listen()
    begun = time.monotonic()
    for _ in range(10):
        before = client.counter('rejected: encoding')
        client.send_until(_wrong_encoding(), lambda before=before: client.counter('rejected: encoding') > before,
                          'the counter')
    # One at once, then one in 5 s: a slow machine gives time for more.
    lines = node.output.count('image rejected')
    assert 1 <= lines <= 1 + (time.monotonic() - begun) / 5
    assert client.counter('rejected: encoding') > lines


def test_padded_rows_are_cut(classifier, client):
    """Padding (step > width * channels) read as pixels would be a skewed image without an error."""
    classifier(tau=1.0, reference_frames=1)
    results = client.listen()
    client.send_until(image(1), lambda: results, 'the reference')
    plain, padded = image(2), image(2, padding=5)
    rows = np.frombuffer(plain.data, np.uint8).reshape(24, 96)
    padded.data = array('B', np.pad(rows, ((0, 0), (0, 5)), constant_values=255).tobytes())
    for message in (plain, padded):
        before = len(results)
        client.send_until(message, lambda before=before: len(results) > before, 'a result')
    probabilities = [r.probabilities for r in results if r.header.stamp.sec == 2]
    np.testing.assert_array_equal(probabilities[0], probabilities[-1])
    assert not np.allclose(results[0].probabilities, probabilities[0], atol=1e-4), 'the picture makes no difference'


@pytest.mark.parametrize(('cut', 'said'), [(200, 'is truncated'), (0, 'must be JPEG or PNG')])
def test_truncated_jpeg_is_rejected(classifier, client, cut, said):
    """OpenCV fills a truncated JPEG with grey and reports success: a silent wrong answer."""
    node = classifier(image_transport='compressed')
    results = client.listen()
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    jpeg = cv2.imencode('.jpg', picture)[1].tobytes()

    def message(number: int, data: bytes) -> CompressedImage:
        return CompressedImage(header=image(number).header, format='jpeg', data=data)

    topic = '/image_raw/compressed'
    client.send_until(message(1, jpeg[:cut]), lambda: client.counter('rejected: compressed'), 'the counter', topic)
    node.wait_for_output(said)
    assert not results
    client.send_until(message(2, jpeg), lambda: results, 'a result of the next good frame', topic)


def test_time_running_backwards(classifier, client):
    """A bag that starts again: counted and said, and still classified."""
    node = classifier()
    results = client.listen()
    client.result_of(image(100), results)
    client.result_of(image(50), results)
    node.wait_for_output('stamp went back by 50.000 s')
    client.wait(lambda: client.counter('stamps backwards') >= 1, 'the counter')


def test_silent_sensor_and_its_return(classifier, client):
    """A pulled plug shows on /diagnostics and in the log, and the sensor is taken up again when it returns."""
    node = classifier(silence_timeout=0.3)
    results = client.listen()
    client.send_until(image(1), lambda: results, 'a result')
    client.wait(lambda: client.status() and client.status().message.startswith('no image for'), 'STALE')
    assert client.status().level == b'\x03'
    node.wait_for_output('is the sensor plugged in')
    count = len(results)
    client.send_until(image(2), lambda: len(results) > count, 'a result')
    node.wait_for_output('images again after')
    assert client.counter('silences') >= 1


def test_sensor_returns_with_another_resolution(classifier, client):
    """A new resolution is a new view: counted, logged, and the no-contact reference is captured again."""
    node = classifier(reference_frames=1, tau=1.0)
    results = client.listen()
    client.send_until(image(1), lambda: results, 'a result')
    count = len(results)
    client.send_until(image(2, height=48, width=64), lambda: len(results) > count, 'a result')
    node.wait_for_output('resolution changed from 32x24 to 64x48')
    client.wait(lambda: client.counter('resolution changes') == 1, 'the counter')
    # Its own reference: no difference at all, as for the very first frame.
    np.testing.assert_allclose(results[count].probabilities, results[0].probabilities, atol=1e-6)


def test_one_bad_sensor_does_not_stop_the_other(classifier, client):
    """Sensors share a batch; a bad image of one must not cost the other's."""
    classifier(sensors='[left, right]')
    right = client.listen('/right/tactile')
    client.send_until(_wrong_encoding(), lambda: client.counter('rejected: encoding', 'left'), 'the counter',
                      '/left/image_raw')
    for number in range(1, 20):
        client.send(_wrong_encoding(), '/left/image_raw')
        client.result_of(image(number), right, '/right/image_raw')
    assert client.counter('rejected', 'right') == 0


def test_grey_images_are_noticed(classifier, client):
    """mono8 for a network that was trained on colour: right in one case of four, at a confidence of 0.99, unsaid."""
    node = classifier(diagnostics_period=0.1)
    results = client.listen()
    grey = Image(header=image(1).header, height=24, width=32, encoding='mono8', step=32, data=array('B', [90] * 768))
    client.send_until(grey, lambda: client.counter('grey images'), 'the counter')
    client.wait(lambda: client.values().get('colour') == 'grey', 'the colour in /diagnostics')
    assert any(status.level == DiagnosticStatus.WARN and 'grey images' in status.message
               for array in client.diagnostics for status in array.status)
    node.wait_for_output('the images are grey; the network was trained on colour images')
    assert results and not client.counter('rejected'), 'not a reason to reject'
    before = client.counter('grey images')
    client.send_until(grey, lambda: client.counter('grey images') > before + 1, 'more of them')
    assert node.output.count('the images are grey') == 1
    counted = client.counter('grey images')
    client.send_until(image(2), lambda: client.values().get('colour') == 'colour', 'colour again')
    assert client.counter('grey images') - counted <= 1


def test_what_usb_cameras_send_is_classified(classifier, client):
    """usb_cam's default encoding was refused."""
    classifier()
    results = client.listen()
    for number, encoding in enumerate(('yuv422_yuy2', 'uyvy', 'bayer_rggb8', 'nv12'), start=1):
        rows, step = (36, 32) if encoding == 'nv12' else (24, 32 if encoding.startswith('bayer') else 64)
        message = Image(header=image(number).header, height=24, width=32, encoding=encoding, step=step,
                        data=array('B', [37 * i % 256 for i in range(rows * step)]))
        client.result_of(message, results)


def test_a_jpeg_with_a_trailer_is_classified_and_a_damaged_one_is_not(classifier, client):
    """A phone's trailer was called truncated, and what libjpeg warns of was classified."""
    node = classifier(image_transport='compressed')
    results = client.listen()
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    jpeg = cv2.imencode('.jpg', picture)[1].tobytes()
    topic, middle = '/image_raw/compressed', len(jpeg) // 2

    def message(data: bytes) -> CompressedImage:
        return CompressedImage(header=image(1).header, format='jpeg', data=data)

    lost = jpeg[:middle] + bytes(400) + jpeg[middle + 400:]
    client.send_until(message(lost), lambda: client.counter('rejected: compressed'), 'the counter', topic)
    node.wait_for_output('is damaged: Corrupt JPEG data')
    assert not results
    client.send_until(message(jpeg + b'trailer\xff\xd9'), lambda: results, 'a result', topic)
