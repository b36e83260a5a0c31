"""From an image to a decision: decode, preprocess, staged runtime, decision. Imports no ROS client."""

from vit_tactile_ros.inference.classifier import Decision, TactileClassifier
from vit_tactile_ros.inference.decode import DecodeError, decode
from vit_tactile_ros.inference.preprocess import fit, normalise
from vit_tactile_ros.inference.reference import Reference

__all__ = ['Decision', 'DecodeError', 'Reference', 'TactileClassifier', 'decode', 'fit', 'normalise']
