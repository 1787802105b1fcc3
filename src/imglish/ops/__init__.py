"""Pure functions of tensors and arrays: no parameters, no configuration."""
