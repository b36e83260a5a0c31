"""Two simulated fingers and the classifier: ros2 launch vit_tactile_ros demo.launch.py."""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

FINGERS = {'left': ('gelsight', 1), 'right': ('digit', 2)}


def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument('rate', default_value='30.0', description='images per second and finger, 1 to 120'),
        DeclareLaunchArgument('tau', default_value='', description="exit threshold, 0 to 1; default: the checkpoint's"),
        DeclareLaunchArgument('device', default_value='', description="'auto', 'cpu', 'cuda' or 'cuda:N'"),
        # Each loads config/fastdds_large_images.xml by itself, unless the environment configures Fast DDS.
        *(Node(
            package='vit_tactile_ros', executable='tactile_simulator', name='tactile_simulator', namespace=finger,
            parameters=[{'sensor': kind, 'seed': seed, 'frame_id': f'{finger}_finger',
                         'rate': ParameterValue(LaunchConfiguration('rate'), value_type=float)}],
            output='screen', emulate_tty=True,
        ) for finger, (kind, seed) in FINGERS.items()),
        IncludeLaunchDescription(
            PathJoinSubstitution([FindPackageShare('vit_tactile_ros'), 'launch', 'tactile.launch.py']),
            launch_arguments={'sensors': f'[{", ".join(FINGERS)}]', 'tau': LaunchConfiguration('tau'),
                              'device': LaunchConfiguration('device')}.items()),
    ])
