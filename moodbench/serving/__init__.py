"""The chosen fit put to use: texts in, labels out, and the model as a folder that needs no MoodBench."""
