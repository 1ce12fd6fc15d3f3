"""A few forward passes on a sample, before hours of work: is the classifier shown what it was trained on?"""
