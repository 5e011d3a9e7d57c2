r"""What is claimed of NVIDIA's drivers, tested where an NVIDIA GPU is.

::

    python -m pytest tests/gpu

Elsewhere every test is skipped, and the reason is printed. Nothing is installed. What came out is
one JSON file, ``gpu-results/DRIVER-GPU.json`` below the current folder (another one:
``--gpu-results FOLDER``), with every test's outcome and every figure, without host, user and UUIDs;
beside it there is what pytest and Python keep, ``.pytest_cache`` and ``__pycache__``, and pytest's
folder in /tmp. ``python tests/gpu/page.py FILE`` takes the file into docs/gpu-results.md.

The file is written after each test, so a run that is cut off loses one test. A run may be done in
parts, too: what an earlier one of the same code, driver, GPU and versions has left in the folder is
added to, and page.py puts parts together that were written into different folders. What failed in
one part has failed: where the machine was to blame, remove the file and run again. ``--gpu-limit
SECONDS`` ends a run in time; after two programs that hang the others are skipped.

It takes a few minutes, and needs Python with pytest, moderngl, glcontext, xvfbwrapper and
nvidia-ml-py, which need not be installed: a checkout or a wheel of this library on PYTHONPATH will
do. Each claim is tested in a process of its own. libEGL.so.1 and libGL.so.1 are the system's, or on
LD_LIBRARY_PATH; Xvfb is looked for on PATH; what needs them is skipped where they cannot be opened,
with the loader's reason.

On a machine without network, of which only a folder is carried there:

1. Elsewhere, with the Python version and the processor of that machine, on Debian or Ubuntu with a
   glibc that is no newer (``ldd --version``; the names are those of Debian 12). The packages are
   those of libglvnd, of Xvfb, and of Mesa, with which the GPU is compared and without which Xvfb
   has no GLX; all that they need but glibc and the compiler's libraries, 61 MB::

       pip download --only-binary=:all: --python-version 3.12 -d wheels moderngl xvfbwrapper \
           nvidia-ml-py pytest
       apt-get download $(apt-cache depends --recurse --no-recommends --no-suggests \
           --no-conflicts --no-breaks --no-replaces --no-enhances \
           xvfb libegl1 libegl-mesa0 libgl1 libopengl0 | grep '^[a-z0-9]' | sort -u | grep -vxE \
           'libc6|libgcc-s1|libstdc\+\+6|gcc-.*|lib.*logind.*|lsb-base|sysvinit-utils|x.*-common')

2. There, as root, in the checkout, with the folder beside it. Of what the system has its own is
   taken; links are made where Xvfb, libglvnd and Mesa look in one place alone::

       python3 -m pip install --no-index --target /tmp/site wheels/*.whl
       for package in *.deb; do dpkg -x $package /tmp/gl; done
       lib=lib/x86_64-linux-gnu
       for soname in $(ldconfig -p | awk '/=>/ {print $1}'); do
           rm -f /tmp/gl/$lib/$soname /tmp/gl/usr/$lib/$soname
       done
       mkdir -p /usr/share/X11 /usr/$lib
       for path in bin/xkbcomp share/X11/xkb share/glvnd $lib/dri; do
           [ -e /usr/$path ] || ln -s /tmp/gl/usr/$path /usr/$path
       done
       export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/tmp/gl/usr/$lib:/tmp/gl/$lib
       export PATH=$PATH:/tmp/gl/usr/bin PYTHONPATH=$PWD:/tmp/site
       python3 -m pytest -p no:cacheprovider --gpu-limit 540 tests/gpu

   Where /usr cannot be written, or without the Mesa and Xvfb packages, the tests of GLX and of Mesa
   are skipped or, where Xvfb has no GLX, fail.

Raw moderngl finds libraries on LD_LIBRARY_PATH only where it is told their names, which the suite
does (GLCONTEXT_LINUX_LIBGL=libGL.so.1, GLCONTEXT_LINUX_LIBEGL=libEGL.so.1).
"""
