"""Kernels that replay rows under causes."""
