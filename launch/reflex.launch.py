"""Shapes and slip side by side on the same images: ros2 launch vit_tactile_ros reflex.launch.py --show-args.

Arguments of tactile.launch.py are for both nodes; checkpoint, tau and max_accuracy_drop only for that of the shapes.
"""

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = FindPackageShare('vit_tactile_ros')
SLIP = {'name': 'slip_detector', 'outputs': 'slip', 'checkpoint': LaunchConfiguration('slip_checkpoint'), 'tau': '',
        'max_accuracy_drop': ''}


def classifier(arguments):
    # In a group, so that the arguments of one are not those of the other.
    return GroupAction([IncludeLaunchDescription(PathJoinSubstitution([PACKAGE, 'launch', 'tactile.launch.py']),
                                                 launch_arguments=arguments.items())])


def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument('params_file', default_value=PathJoinSubstitution([PACKAGE, 'config', 'reflex.yaml']),
                              description='YAML file of parameters of both nodes'),
        DeclareLaunchArgument(
            'slip_checkpoint', default_value=PathJoinSubstitution([PACKAGE, 'models', 'tactile_slip.safetensors']),
            description='path of a .safetensors checkpoint of states'),
        classifier({}),
        classifier(SLIP),
    ])
