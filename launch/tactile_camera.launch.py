"""A camera and the classifier of its images: ros2 launch vit_tactile_ros tactile_camera.launch.py --show-args."""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = {
    'sensor': ('generic', "'gelsight_mini', 'digit' or 'generic': the file config/camera_<sensor>.yaml"),
    'camera_params_file': ('', 'YAML file of parameters of the camera; default: the file of the sensor'),
    'serial': ('', 'USB serial number of the camera'),
    'device': ('', 'path of the camera, in place of serial'),
    'video': ('', 'video or folder of images to repeat, in place of serial'),
    'checkpoint': ('', "path of a .safetensors checkpoint; default: the classifier's own"),
}


def start_camera(context):
    """Arguments that were not given leave the values of the file alone."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    file = given['camera_params_file'] or PathJoinSubstitution(
        [FindPackageShare('vit_tactile_ros'), 'config', f'camera_{given["sensor"]}.yaml'])
    parameters = {name: given[name] for name in ('serial', 'device', 'video') if given[name]}
    if given['video']:
        parameters['loop'] = True
    return [Node(package='vit_tactile_ros', executable='tactile_camera', name='tactile_camera',
                 parameters=[file, parameters], output='screen', emulate_tty=True, respawn=True, respawn_delay=2.0)]


def generate_launch_description():
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        OpaqueFunction(function=start_camera),
        IncludeLaunchDescription(
            PathJoinSubstitution([FindPackageShare('vit_tactile_ros'), 'launch', 'tactile.launch.py']),
            launch_arguments={'checkpoint': LaunchConfiguration('checkpoint')}.items()),
    ])
