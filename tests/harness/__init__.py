"""What the tests drive: real kernels (`kernels`) and real front ends (`lab`, `voila`)."""
