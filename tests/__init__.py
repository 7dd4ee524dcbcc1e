"""The tests: real servers, real kernels, real browsers; only clocks are faked."""
