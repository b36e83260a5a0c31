"""A camera and the classifier of its images: ros2 launch vit_tactile_ros tactile_camera.launch.py --show-args."""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription
from vit_tactile_ros.ros.parameter_file import full_name, value_in
from vit_tactile_ros.ros.restarted_node import restarted_node

ARGUMENTS = {
    'sensor': ('generic', "'gelsight_mini', 'digit' or 'generic': the file config/camera_<sensor>.yaml"),
    'camera_params_file': ('', 'YAML file of parameters of the camera; default: the file of the sensor'),
    'serial': ('', 'USB serial number of the camera'),
    'device': ('', 'path of the camera, instead of serial'),
    'video': ('', 'video or folder of images to repeat, instead of serial'),
    'camera_name': ('', "'left': left/image_raw -> left/tactile; default: from camera_params_file"),
    'namespace': ('', 'namespace of both nodes and their relative topics'),
    'checkpoint': ('', "path of a .safetensors checkpoint; default: the classifier's"),
}


def start_camera(context):
    """Arguments that are given replace the values of the file."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    file = Path(given['camera_params_file'] or Path(
        FindPackageShare('vit_tactile_ros').perform(context), 'config', f'camera_{given["sensor"]}.yaml'))
    if not file.is_file():  # launch_ros would start the node without it, on defaults
        raise RuntimeError(f'{file} does not exist; camera_params_file must be the path of a YAML file, or sensor '
                           f'(which is {given["sensor"]!r}) one of gelsight_mini, digit, generic')
    node = full_name(context.launch_configurations.get('ros_namespace', ''), given['namespace'], 'tactile_camera')
    name = given['camera_name'] or value_in(file, node, 'camera_name') or ''  # the classifier needs it too
    if name:
        context.launch_configurations['sensors'] = f'[{name}]'
    parameters = {key: value for key, value in {**given, 'camera_name': name}.items()
                  if value and key in ('serial', 'device', 'video', 'camera_name')}
    if given['video']:
        parameters['loop'] = True
    return [restarted_node('tactile_camera', namespace=given['namespace'], parameters=[str(file), parameters])]


def generate_launch_description():
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        GroupAction([  # so that what is set for the classifier is not set for the launch file that includes this one
            OpaqueFunction(function=start_camera),
            IncludeLaunchDescription(
                PathJoinSubstitution([FindPackageShare('vit_tactile_ros'), 'launch', 'tactile.launch.py']),
                # The classifier's argument `device` has another meaning: not the camera.
                launch_arguments={'device': ''}.items()),
        ]),
    ])
