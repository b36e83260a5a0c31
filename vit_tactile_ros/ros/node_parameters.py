"""The parameters of a running classifier node: declared, checked, and tau and max_accuracy_drop kept in step."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from vit_tactile_ros.inference.tau_steering import Budget
from vit_tactile_ros.model import Calibration
from vit_tactile_ros.ros.exit_policy import ExitPolicy, InForce, PolicyError
from vit_tactile_ros.ros.guard import CallbackGuard
from vit_tactile_ros.ros.parameters import RULES, refusal

_PAIR = ('tau', 'max_accuracy_drop')
_BUDGET = {'latency_budget': 'seconds', 'tau_min': 'tau_min'}


class NodeParameters:
    """Setting tau or max_accuracy_drop changes what the other shows: both are set at once, before the checks.

    So no callback sets a parameter. `in_force` is None while the node is not configured.
    """

    def __init__(self, node: Node, guard: CallbackGuard) -> None:
        """Raises rclpy's parameter exceptions for a start-up parameter that is wrong."""
        self.in_force: InForce | None = None
        self._node = node
        self._policy = ExitPolicy()
        self._proposed: ExitPolicy | None = None  # between the callbacks of one request
        self._model: tuple[Calibration, int] | None = None  # with the number of exits; None: not configured
        self._budget = Budget()
        node.add_pre_set_parameters_callback(guard('completing parameters', self._complete, lambda _, given: given))
        node.add_on_set_parameters_callback(guard(
            'checking parameters', self._check, lambda error, _: SetParametersResult(
                successful=False, reason=f'internal error, see the log of the node: {error}')))
        node.add_post_set_parameters_callback(guard('applying parameters', self._apply))
        for rule in RULES.values():
            node.declare_parameter(rule.name, rule.default, rule.descriptor())
        self._policy = ExitPolicy.at_start(*(self.value(name) for name in _PAIR))

    @property
    def source(self) -> str:
        """The source of the thresholds: 'tau', 'max_accuracy_drop' or 'checkpoint'."""
        return self._policy.source

    def value(self, name: str) -> Any:
        return self._node.get_parameter(name).value

    def thresholds(self) -> tuple[float, ...]:
        """The current thresholds, one per early exit."""
        in_force = self.in_force  # read once: called by the worker
        return in_force.thresholds if in_force is not None else ()

    def budget(self) -> Budget:
        """The current latency budget."""
        return self._budget

    def check(self, calibration: Calibration, num_exits: int) -> None:
        """Raise PolicyError if the settings do not fit this checkpoint."""
        self._policy.in_force(calibration, num_exits)

    def configure(self, calibration: Calibration, num_exits: int) -> None:
        """Apply and show the settings for this checkpoint; raises PolicyError if they do not fit."""
        self._put_in_force(self._policy.in_force(calibration, num_exits))
        changed = [Parameter(name, value=value) for name, value in self._shown.items() if value != self.value(name)]
        self._model = calibration, num_exits
        if changed:
            # Both: a value that is already shown changes nothing.
            self._node.set_parameters_atomically([Parameter(n, value=v) for n, v in self._shown.items()])

    def forget(self) -> None:
        """The node is no longer configured."""
        self.in_force = self._model = None

    @property
    def _shown(self) -> dict[str, Any]:
        return self.in_force.shown if self.in_force is not None else {}

    def _complete(self, parameters: list[Parameter]) -> list[Parameter]:
        self._proposed = None
        given = _pair_of(parameters)
        if not given or self._refusal(parameters):
            return parameters
        proposed = self._proposed = self._policy.after(given, self._shown)
        shown = proposed.in_force(*self._model).shown if self._model else proposed.shown
        return parameters + [Parameter(name, value=value) for name, value in shown.items()
                             if name not in given and value != self.value(name)]

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        reason = self._refusal(parameters)
        return SetParametersResult(successful=not reason, reason=reason)

    def _refusal(self, parameters: list[Parameter]) -> str:
        for p in parameters:
            is_declared = self._node.has_parameter(p.name)
            current = self.value(p.name) if is_declared else None
            reason = refusal(p.name, p.value, is_declared, current, self._node.get_fully_qualified_name(),
                             self._model[1] if self._model else None)
            if reason:
                return reason
        if self._proposed is None and (given := _pair_of(parameters)):
            try:
                policy = self._policy.after(given, self._shown)
                if self._model is not None:
                    policy.in_force(*self._model)
            except PolicyError as error:
                return str(error)
        return ''

    def _apply(self, parameters: list[Parameter]) -> None:
        self._budget = self._budget._replace(**{_BUDGET[p.name]: float(p.value) for p in parameters
                                                if p.name in _BUDGET})
        if self._model is not None and any(p.name in _BUDGET for p in parameters):
            self._explain_budget()
        proposed, self._proposed = self._proposed, None
        if proposed is None or proposed == self._policy:
            return
        self._policy = proposed
        if self._model is not None:
            self._put_in_force(proposed.in_force(*self._model))

    def _put_in_force(self, in_force: InForce) -> None:
        self.in_force = in_force
        self._explain_budget()
        for note in in_force.notes:
            self._node.get_logger().info(note)
        for warning in in_force.warnings:
            self._node.get_logger().warning(warning)

    def _explain_budget(self) -> None:
        """Steering gives up the bound on the accuracy drop."""
        if self._budget.seconds and self._policy.source == 'max_accuracy_drop' and self._budget.tau_min < 1:
            self._node.get_logger().warning(
                'max_accuracy_drop holds for results with its own tau only: under load, latency_budget lowers tau down '
                f'to tau_min {self._budget.tau_min:g}; with tau_min 1, tau is never lowered')


def _pair_of(parameters: list[Parameter]) -> dict[str, Any]:
    return {p.name: p.value for p in parameters if p.name in _PAIR and p.value is not None}
