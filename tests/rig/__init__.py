"""The test rig: real libglvnd, Mesa and X; only NVIDIA's vendor libraries are stand-ins.

``driver`` compiles the stand-in driver, ``machines`` runs programs in simulated machines.
"""
