"""The solvers that compute E-fields in head models by finite elements."""
