"""Use of a fit: label texts, or export the model as a folder that works without MoodBench."""
