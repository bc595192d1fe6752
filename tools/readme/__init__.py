"""The tables of terraform/README.md, made from the variables, the outputs and the prices."""
