"""From logits to tokens: in PyTorch (`sampler`, `steps`), and by the native kernels (`native`)."""
