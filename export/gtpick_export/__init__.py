"""From trained weights to ONNX, with proof of parity."""

import gtpick_rt  # noqa: F401 - before ONNX Runtime, which it keeps from reporting home
