"""Between sessions: anatomy, preprocessing, models and their validation, export to the model file."""
