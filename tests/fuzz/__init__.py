"""What hostile input is made of, and what it is given to.

``targets`` has a function from bytes to nothing for each way by which input comes in; ``run`` gives
one of them ten thousand cases, made by hypothesis and by atheris.
"""
