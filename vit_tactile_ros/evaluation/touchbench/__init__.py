"""The open benchmark of camera-based touch: tasks with data recipes, group-disjoint splits, controls and baselines."""
