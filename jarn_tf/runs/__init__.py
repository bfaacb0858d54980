"""Runs: settings, presets, the files of a folder, training and evaluating. Built on the library."""
