"""The classifier for one or several touch sensors: ros2 launch vit_tactile_ros tactile.launch.py --show-args.

A driver of large raw images in the same launch needs additional_env={'FASTRTPS_DEFAULT_PROFILES_FILE': ...}
(docs/results/transport.md); the classifier sets what it needs itself.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription
from vit_tactile_ros.data.plain_yaml import load_yaml
from vit_tactile_ros.ros.parameter_file import full_name, value_in
from vit_tactile_ros.ros.restarted_node import restarted_node

ARGUMENTS = {
    'sensors': ('', "names, '[left, right]': left/image_raw -> left/tactile; default: image_raw -> tactile"),
    'checkpoint': ('', 'path of a .safetensors checkpoint; default: from params_file, else the shipped one'),
    'device': ('', "'auto', 'cpu', 'cuda' or 'cuda:N'; default: from params_file"),
    'engine': ('', "what runs the network: 'auto', 'torch', 'openvino', 'cuda_graph' or 'triton'; "
               'default: from params_file'),
    'precision': ('', "'float32', 'bfloat16', 'int8' (calibrated checkpoints) or 'auto'; default: from params_file"),
    'tau': ('', "exit threshold, 0 to 1, or one per early exit; default: from params_file, else the checkpoint's"),
    'max_accuracy_drop': ('', 'accepted accuracy drop, instead of tau; default: from params_file'),
    'skip_unchanged': ('', "'true': an image that shows the same touch keeps the result; default: from params_file"),
    'image_transport': ('', "'raw' or 'compressed'; default: from params_file"),
    'namespace': ('', 'namespace of the node and its relative topics'),
    'name': ('tactile_classifier', 'name of the node, as in params_file'),
    'outputs': ('', "'slip': left/slip/tactile in place of left/tactile, as for all that is published about a sensor"),
    'autostart': ('', "'false': wait for a lifecycle manager; default: from params_file"),
}

OUTPUTS = ('tactile', 'touch_event', 'annotated', 'classification', 'label_info')


def start_node(context):
    """Arguments that are given replace the values of the file."""
    params_file = LaunchConfiguration('params_file').perform(context)
    if not Path(params_file).is_file():  # launch_ros would start the node without it, on defaults
        raise RuntimeError(f'params_file is {params_file!r}; must be the path of a YAML file that exists')
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    parameters = {}
    for name in ('checkpoint', 'device', 'engine', 'precision', 'image_transport'):
        if given[name]:
            parameters[name] = given[name]
    for name in ('tau', 'max_accuracy_drop', 'skip_unchanged', 'autostart'):
        if given[name]:
            value = load_yaml(given[name])
            # ROS takes lists of one type only: tau:='[0.9, 1]' is meant as [0.9, 1.0].
            is_numbers = isinstance(value, list) and all(type(v) in (int, float) for v in value)
            parameters[name] = [float(v) for v in value] if is_numbers else value
    if given['sensors']:
        sensors = load_yaml(given['sensors'])
        parameters['sensors'] = sensors if isinstance(sensors, list) else [sensors]
    remappings = []
    if given['outputs']:
        node = full_name(context.launch_configurations.get('ros_namespace', ''), given['namespace'], given['name'])
        sensors = parameters.get('sensors') or value_in(Path(params_file), node, 'sensors') or ['']
        remappings = [(f'{sensor}/{topic}'.strip('/'), f'{sensor}/{given["outputs"]}/{topic}'.strip('/'))
                      for sensor in sensors for topic in OUTPUTS]
    return [restarted_node('tactile_classifier', name=given['name'], namespace=given['namespace'],
                           parameters=[params_file, parameters], remappings=remappings)]


def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument(
            'params_file',
            default_value=PathJoinSubstitution([FindPackageShare('vit_tactile_ros'), 'config', 'tactile.yaml']),
            description='YAML file of parameters'),
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        OpaqueFunction(function=start_node),
    ])
