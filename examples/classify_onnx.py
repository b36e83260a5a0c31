#!/usr/bin/env python3
"""Classifies an image or a video with the files of `vit-tactile export`: needs onnxruntime, numpy and opencv only.

    python classify_onnx.py network touch.avi
    python classify_onnx.py network touch.png --reference untouched.png --tau 0.9

An example to start from. Without --reference, the first images of a video must show the gel without contact. It does
not have the gate of the ROS node, which recognises untouched images without the network.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime


class Classifier:
    def __init__(self, folder, tau=None):
        self.about = json.loads((Path(folder) / 'network.json').read_text(encoding='utf-8'))
        if (self.about['format'], self.about['version']) != ('vit_tactile_onnx', 1):
            raise SystemExit(f'{folder}: not a folder that this example can read')
        self.how = self.about['preprocessing']
        self.tau = self.about['tau'] if tau is None else [tau] * (len(self.about['stages']) - 1)
        self.sessions = [onnxruntime.InferenceSession(Path(folder) / stage['file'], providers=['CPUExecutionProvider'])
                         for stage in self.about['stages']]

    def fit(self, image):
        """A BGR image of a camera, rotated, cropped and resized to the input's size; RGB."""
        return self.resized(self.view(image))

    def view(self, image):
        """Rotated and cropped."""
        height, width = self.about['input']['height'], self.about['input']['width']
        if self.how['orientation'] == 'match' and (image.shape[0] - image.shape[1]) * (height - width) < 0:
            image = cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)
        if self.how['crop'] == 'center':
            rows = min(image.shape[0], max(1, round(image.shape[1] * height / width)))
            columns = min(image.shape[1], max(1, round(image.shape[0] / (height / width))))
            top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
            image = image[top:top + rows, left:left + columns]
        return image

    def resized(self, image):
        height, width = self.about['input']['height'], self.about['input']['width']
        if image.shape[:2] != (height, width):
            shrinks = image.shape[0] >= height and image.shape[1] >= width
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def closer(self, image, fitted, reference):
        """The part around a small contact and its reference, enlarged; otherwise the fitted ones."""
        how, (height, width) = self.how.get('zoom'), fitted.shape[:2]
        if not how:
            return fitted, reference
        step = max(1, min(height, width) // how['side'])  # a contact is searched for in a reduced image
        rows, columns = height // step, width // step
        reduced, still = (cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA) for picture in (
            fitted, np.ascontiguousarray(reference, np.float32)))
        difference = reduced.astype(np.float32) - still
        sample = difference[2::4, 2::4].reshape(-1, 3)
        light = np.partition(sample, len(sample) // 2, axis=0)[len(sample) // 2]
        strength = np.abs(cv2.GaussianBlur(difference, (0, 0), min(rows, columns) / how['side']) - light).max(axis=2)
        count = max(1, round(how['peak'] * rows * columns / (how['side'] * how['side'] * 4 / 3)))
        peak = float(np.partition(strength, -count, axis=None)[-count])
        if how['strong'] * peak < how['noise']:
            return fitted, reference
        found = cv2.moments(np.maximum(strength - np.float32(how['strong'] * peak), 0))
        spread = ((found['mu20'] + found['mu02']) / found['m00'] / 2) ** 0.5 / min(rows, columns)
        centre = (found['m01'] / found['m00'] + 0.5) / rows, (found['m10'] / found['m00'] + 0.5) / columns
        whole = self.view(image)
        most = min(whole.shape[0] / height, whole.shape[1] / width)  # the part has at least as many px as the input
        wanted = next((zoom for zoom in how['zooms'] if zoom * spread >= how['to']), how['zooms'][-1])
        zoom = max((zoom for zoom in how['zooms'] if zoom <= min(wanted, most)), default=0)
        if spread >= how['below'] or zoom * spread < how['below']:
            return fitted, reference
        rows, columns = (round(side / zoom) for side in whole.shape[:2])
        top, left = (min(max(round(c * side - length / 2), 0), side - length)
                     for c, side, length in zip(centre, whole.shape[:2], (rows, columns), strict=True))
        share = rows / whole.shape[0], columns / whole.shape[1]
        to_reference = np.array([[share[1], 0, left / whole.shape[1] * width + 0.5 * share[1] - 0.5],
                                 [0, share[0], top / whole.shape[0] * height + 0.5 * share[0] - 0.5]])
        part = cv2.warpAffine(np.ascontiguousarray(reference, np.float32), to_reference, (width, height),
                              flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
        return self.resized(whole[top:top + rows, left:left + columns]), np.rint(part)

    def input(self, image, reference, earlier):
        """The network's input, (1, channels, height, width), of fitted images; earlier: one per view of the motion."""
        scale, shift = (np.array(self.how[name], np.float32) for name in ('scale', 'shift'))
        values = image.astype(np.float32)
        if self.how['reference'] == 'difference':
            values = np.clip(values - reference, -127.5, 127.5)
        parts = [values * scale - shift]
        for before in earlier:
            motion = np.clip(image.astype(np.float32) - before, -127.5, 127.5)
            parts.append(motion * np.float32(self.how['motion']['scale']))
        return np.ascontiguousarray(np.concatenate(parts, axis=2).transpose(2, 0, 1)[None])

    def classify(self, values):
        """Class, confidence and the block of the exit: stage by stage, until the confidence reaches tau."""
        logits = None
        for number, (stage, session) in enumerate(zip(self.about['stages'], self.sessions, strict=True)):
            inputs = {stage['input']: values}
            if 'logits_input' in stage:  # the stage adds to the logits of the exit before
                inputs[stage['logits_input']] = logits
            logits, *tokens = session.run(stage['outputs'], inputs)
            scaled = logits[0] / np.float32(stage['temperature'])
            probabilities = np.exp(scaled - scaled.max())
            probabilities /= probabilities.sum()
            best = int(probabilities.argmax())
            if not tokens or (self.tau[number] < 1 and probabilities[best] >= np.float32(self.tau[number])):
                return self.about['class_names'][best], float(probabilities[best]), stage['exit_block']
            values = tokens[0]


class Stream:
    """What is remembered from image to image: the reference, and the last images for the motion."""

    def __init__(self, classifier, reference=None):
        self.classifier, self.reference, self.images = classifier, reference, []
        self.missing = 0 if reference is not None else classifier.how['reference_frames']
        self.motion = classifier.how['motion']

    def classify(self, image, seconds):
        camera, image = image, self.classifier.fit(image)
        if self.missing:  # the mean of the images so far
            taken = self.classifier.how['reference_frames'] - self.missing
            before = 0 if self.reference is None else self.reference
            self.reference = (before + (image - before) / (taken + 1)).astype(np.float32)
            self.missing -= 1
        earlier = self.earlier(image, seconds)
        return self.classifier.classify(self.classifier.input(
            *self.classifier.closer(camera, image, self.reference), earlier))

    def earlier(self, image, seconds):
        """The images that long ago, as near as there are; none for a network without motion."""
        if not self.motion:
            return []
        if self.images and seconds > self.images[-1][0] + self.motion['farthest_seconds']:
            self.images = []
        known = self.images or [(seconds, image)]
        found = [min(known, key=lambda old: abs(seconds - ago - old[0]))[1] for ago in self.motion['seconds']]
        self.images = [old for old in self.images if old[0] > seconds - 2 * self.motion['seconds'][-1]]
        # At most eight are kept per interval, as in training, also of a faster camera.
        if not self.images or seconds - self.images[-1][0] >= self.motion['seconds'][0] / 8 - 1e-9:
            self.images.append((seconds, image))
        return found


def images_of(path):
    """(seconds, image) of every image of a video, or of the one image."""
    image = cv2.imread(path)
    if image is not None:
        yield 0.0, image
        return
    video = cv2.VideoCapture(path)
    rate, number = video.get(cv2.CAP_PROP_FPS) or 30.0, 0
    while (read := video.read())[0]:
        yield number / rate, read[1]
        number += 1
    if not number:
        raise SystemExit(f'{path}: not an image or video that OpenCV can read')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('network', help='folder that vit-tactile export has written')
    parser.add_argument('file', help='image or video')
    parser.add_argument('--reference', help='image without contact; default: the first images of the video')
    parser.add_argument('--tau', type=float, help='threshold of every early exit, 0 to 1; default: of the network')
    arguments = parser.parse_args()
    classifier = Classifier(arguments.network, arguments.tau)
    reference = None
    if arguments.reference:
        reference = classifier.fit(next(images_of(arguments.reference))[1]).astype(np.float32)
    stream = Stream(classifier, reference)
    for number, (seconds, image) in enumerate(images_of(arguments.file)):
        name, confidence, block = stream.classify(image, seconds)
        print(f'{number} {name} {confidence:.4f} block {block}')


if __name__ == '__main__':
    main()
