"""The lessons, installed with the package: NN_name.py is the source, NN_name.ipynb is built from it."""
