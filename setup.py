"""`pip install .`: the part that needs no ROS (model, training); ROS takes CMakeLists.txt."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=['vit_tactile_ros', 'vit_tactile_ros.*'],
                             exclude=['vit_tactile_ros.ros', 'vit_tactile_ros.ros.*']),
              'vit_tactile_ros.models'],
    # models/ lies beside the package in the checkout and inside it once installed.
    package_dir={'vit_tactile_ros.models': 'models'},
    package_data={'vit_tactile_ros.models': ['*.safetensors', '*.json', '*.md'],
                  'vit_tactile_ros.evaluation.recordings': ['*.html'],
                  'vit_tactile_ros.simulator': ['sensors/*.json']},
)
