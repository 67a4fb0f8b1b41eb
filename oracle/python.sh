#!/bin/sh
# python.sh UV: where a Python 3.12 is that Dify's engine can run in; of uv's own, of the PATH's, or of pyenv's.
"$1" python find --no-project --no-python-downloads --system 3.12 2>/dev/null && exit
for python in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python; do
    if [ -x "$python" ]; then
        echo "$python"
        exit
    fi
done
echo "make oracle needs Python 3.12, which Dify's engine runs in: there is none on the PATH, of uv's or of pyenv's" >&2
exit 1
