"""How good the article's models and the baselines are on stimulations that they were not fitted to.

Jobs, folds, figures and the report import without TensorFlow: it is loaded inside the jobs that train a network.
"""
