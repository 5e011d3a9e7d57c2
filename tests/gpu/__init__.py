"""What is claimed of NVIDIA's drivers, tested where an NVIDIA GPU is.

::

    python -m pytest tests/gpu

Elsewhere every test is skipped, and the reason is printed. Nothing is installed and nothing is
written but one JSON file, ``gpu-results/DRIVER-GPU.json`` below the current folder (another one:
``--gpu-results FOLDER``), with every test's outcome and every figure, without host, user and UUIDs.
``python tests/gpu/page.py FILE`` takes it into docs/gpu-results.md.

It takes a few minutes, and needs Python with pytest, moderngl, glcontext, xvfbwrapper and
nvidia-ml-py, which need not be installed: a checkout or a wheel of this library on PYTHONPATH will
do. Each claim is tested in a process of its own. libEGL.so.1 is the system's, or one on
LD_LIBRARY_PATH; Xvfb is looked for on PATH; what needs them is skipped where they are not.

On a machine without network, of which only a folder is carried there:

1. Elsewhere, with the Python version and the processor of that machine::

       pip download --only-binary=:all: --python-version 3.12 -d wheels moderngl xvfbwrapper \\
           nvidia-ml-py pytest
       apt-get download libegl1 libgl1 libglvnd0 libglx0 libopengl0 \\
           libx11-6 libxcb1 libxau6 libxdmcp6

2. There, in the checkout, with the folder beside it::

       python3 -m pip install --no-index --target /tmp/site wheels/*.whl
       for package in *.deb; do dpkg -x $package /tmp/gl; done
       export PYTHONPATH=$PWD:/tmp/site LD_LIBRARY_PATH=/tmp/gl/usr/lib/x86_64-linux-gnu
       python3 -m pytest -p no:cacheprovider tests/gpu

For the tests of GLX Xvfb is carried as well, with xkb-data, x11-xkb-utils and what ``ldd`` says
that they need: the folder of Xvfb goes on PATH, and it looks for /usr/bin/xkbcomp and
/usr/share/X11/xkb nowhere else, so these two are links, or the packages are unpacked to ``/``. For
the tests that compare with Mesa, libegl-mesa0, libglx-mesa0 and libgl1-mesa-dri are unpacked to
``/``, with what they need: libglvnd looks for their ICD in /usr/share/glvnd alone.
"""
