#!/usr/bin/env bash
# Sets up everything iree_migraphx needs, below ROOT_DIR, without root. `./setup.sh help` lists the steps.
# Every step can be called by itself and again: what is done already is not done twice.
set -euo pipefail

REPO_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT_DIR=${ROOT_DIR:-$REPO_DIR/.root}
case $ROOT_DIR in /*) ;; *) ROOT_DIR=$PWD/$ROOT_DIR ;; esac
PYTHON=${PYTHON:-python3}
ROCM_PATH=${ROCM_PATH:-/opt/rocm}

MIGRAPHX_DIR=$ROOT_DIR/migraphx # Debian's packages, unpacked; absent where the machine has its own MIGraphX
VIRTUAL_DIR=$ROOT_DIR/virtual_gpu  # what MIGraphX's gpu target needs on a machine without a GPU
VENV_DIR=$ROOT_DIR/venv
MODELS_DIR=$ROOT_DIR/models
CACHE_DIR=$ROOT_DIR/cache
IREE_VERSION=3.13.0
DEBIAN_SUITE=sid
# The ref target's libraries and the C library they were built against; the gpu target's dependencies are left out.
DEBIAN_PACKAGES="migraphx-tools libmigraphx-c3 libmigraphx-c-dev
  libc6 libstdc++6 libgcc-s1 libprotobuf32t64 libsqlite3-0 zlib1g"
# What the gpu target compiles its own kernels with, and HIP's headers; HIP and the tuned libraries are replaced.
DEBIAN_GPU_PACKAGES="libhiprtc6 libhiprtc-builtins6 libamd-comgr3 libamdhip64-dev
  libllvm21 libnuma1 libzstd1 libxml2-16 libedit2 libffi8 libz3-4 libbsd0 libmd0 libtinfo6"

say() { printf 'setup.sh: %s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}

#: setup_dirs        create the folders below ROOT_DIR
setup_dirs() {
  mkdir -p "$ROOT_DIR" "$CACHE_DIR"
}

#: install_migraphx  find a MIGraphX that is there already, else unpack Debian's packages below ROOT_DIR
install_migraphx() {
  setup_dirs
  local found
  if [ -z "${SETUP_FORCE_DEBIAN:-}" ] && found=$(installed_migraphx); then
    say "MIGraphX is installed already: $found"
    return
  fi
  if [ -e "$MIGRAPHX_DIR/.complete" ]; then
    say "MIGraphX is in $MIGRAPHX_DIR already"
    return
  fi
  say "no MIGraphX on this machine; fetching Debian's packages (about 30 MB, once)"
  # shellcheck disable=SC2086 # one word a package
  fetch_debian_packages "$MIGRAPHX_DIR" $DEBIAN_PACKAGES
  say "MIGraphX unpacked into $MIGRAPHX_DIR"
}

# Prints the libmigraphx_c that this machine's own loader finds, ROCm's first.
installed_migraphx() {
  local candidate
  for candidate in "$ROCM_PATH"/lib/libmigraphx_c.so.3 "$ROCM_PATH"/lib/migraphx/lib/libmigraphx_c.so.3; do
    [ -e "$candidate" ] && printf '%s\n' "$candidate" && return
  done
  PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | awk '/libmigraphx_c\.so\.3 / {print $NF; found = 1; exit} END {exit !found}'
}

# Unpacks packages into the tree $1, which is complete where it has a file .complete.
fetch_debian_packages() {
  local tree=$1 tool
  shift
  for tool in apt-get apt-cache dpkg; do
    command -v $tool >/dev/null || die "MIGraphX is not installed, and without $tool it can't be fetched from Debian." \
      "Install ROCm's package (migraphx, https://rocm.docs.amd.com) or point ROCM_PATH at an installation."
  done
  [ "$(dpkg --print-architecture)" = amd64 ] ||
    die "MIGraphX is not installed, and Debian's fallback is for amd64 only. Install ROCm's migraphx package."
  local apt=$ROOT_DIR/apt unpacked=$tree.partial mirror keyring
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -e "$keyring" ] || die "MIGraphX is not installed, and $keyring, which verifies Debian's packages, is missing." \
    "Install ROCm's migraphx package, or the package debian-archive-keyring, and run this again."
  mirror=$(debian_mirror) || die "apt's configuration names no Debian mirror. Set DEBIAN_MIRROR, or install ROCm's migraphx package."

  rm -rf "$unpacked"
  mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/state" "$apt/debs" "$unpacked"
  : >"$apt/status"
  printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$DEBIAN_SUITE" >"$apt/sources.list"
  cat >"$apt/apt.conf" <<CONF
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "-";
Dir::State "$apt/state";
Dir::State::Lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Sandbox::User "";
Acquire::Retries "3";
CONF
  local log=$apt/update.log
  if ! APT_CONFIG=$apt/apt.conf apt-get update >"$log" 2>&1 || grep -q '^[EW]: .*Failed to fetch' "$log"; then
    # A frozen mirror serves a Release file whose date has passed; its signature is checked all the same.
    grep -qi 'expired\|not valid' "$log" || { cat "$log" >&2; die "apt-get could not read the suite $DEBIAN_SUITE of the Debian mirror"; }
    APT_CONFIG=$apt/apt.conf apt-get -o Acquire::Check-Valid-Until=false update >"$log" 2>&1 ||
      { cat "$log" >&2; die "apt-get could not read the suite $DEBIAN_SUITE of the Debian mirror"; }
  fi
  (cd "$apt/debs" && rm -f ./*.deb && APT_CONFIG=$apt/apt.conf apt-get download -q "$@" >"$apt/download.log" 2>&1) ||
    { cat "$apt/download.log" >&2; die "apt-get could not fetch the packages $*"; }
  local deb
  for deb in "$apt"/debs/*.deb; do dpkg -x "$deb" "$unpacked"; done
  check_debian_tree "$unpacked"
  touch "$unpacked/.complete"
  rm -rf "$tree" "$apt/debs"
  mv "$unpacked" "$tree"
}

# The mirror that apt itself uses for Debian's main component.
debian_mirror() {
  if [ -n "${DEBIAN_MIRROR:-}" ]; then
    printf '%s\n' "$DEBIAN_MIRROR"
    return
  fi
  local targets
  # shellcheck disable=SC2016 # apt's own variables
  targets=$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(SITE)' 'Created-By: Packages')
  # The origin is known only after an apt-get update; before it, the site's own path says debian.
  awk '($1 == "Debian" && $2 == "main") {print $3; found = 1; exit} END {exit !found}' <<<"$targets" ||
    awk '$NF ~ /\/debian\/?$/ {print $NF; found = 1; exit} END {exit !found}' <<<"$targets"
}

# Every library of the ref target, and every one that its kernels are compiled with, must resolve inside the trees.
check_debian_tree() {
  local lib=$1/usr/lib/x86_64-linux-gnu path loader missing target
  path=$lib:$lib/migraphx/lib:$MIGRAPHX_DIR/usr/lib/x86_64-linux-gnu
  loader=$lib/ld-linux-x86-64.so.2
  [ -e "$loader" ] || loader=$MIGRAPHX_DIR/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
  for target in "$lib"/libmigraphx_c.so.3 "$lib"/migraphx/lib/libmigraphx_{ref,onnx,tf}.so.[0-9]* "$lib"/lib{hiprtc,amd_comgr}.so.[0-9]; do
    [ -e "$target" ] || continue
    missing=$("$loader" --library-path "$path" --list "$target" 2>&1 | grep 'not found' || true)
    [ -z "$missing" ] || die "$target needs what the lists of packages in setup.sh lack: $missing"
  done
}

#: install_iree      create the virtual environment with the IREE compiler and runtime
install_iree() {
  setup_dirs
  make_venv
  if "$VENV_DIR/bin/python" -c "import importlib.metadata as m; assert m.version('iree-base-compiler') == m.version('iree-base-runtime') == '$IREE_VERSION'" 2>/dev/null; then
    say "IREE $IREE_VERSION is installed already"
    return
  fi
  say "installing IREE $IREE_VERSION"
  pip_install "iree-base-compiler==$IREE_VERSION" "iree-base-runtime==$IREE_VERSION"
}

#: install_package   install iree_migraphx itself, editable, with what the tests and examples need
install_package() {
  install_iree
  local stamp=$VENV_DIR/.package wanted
  wanted=$(cksum "$REPO_DIR/pyproject.toml")
  if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    say "iree_migraphx is installed already"
    return
  fi
  say "installing iree_migraphx"
  pip_install -e "${REPO_DIR}[dev,examples]"
  # The example's package wants a computer-vision library that only its own code uses: its models are all we need.
  pip_install --no-deps rapidocr_onnxruntime==1.4.4
  printf '%s\n' "$wanted" >"$stamp"
}

#: models            put the example models where they are easy to name: ROOT_DIR/models
models() {
  install_package
  local found
  found=$("$VENV_DIR/bin/python" -c "import importlib.util as u, pathlib; print(pathlib.Path(u.find_spec('rapidocr_onnxruntime').origin).parent / 'models')")
  mkdir -p "$MODELS_DIR"
  ln -sf "$found"/*.onnx "$MODELS_DIR"
}

pip_install() {
  "$VENV_DIR/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

# A virtual environment whose interpreter runs under Debian's loader where MIGraphX came from there: its libraries need
# a newer C library than the machine's. No file is patched and LD_LIBRARY_PATH is never set, so other programs are untouched.
make_venv() {
  if [ ! -e "$VENV_DIR/.created" ]; then
    command -v "$PYTHON" >/dev/null || die "there is no $PYTHON; install Python 3.10 or newer, or set PYTHON"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "$PYTHON is older than Python 3.10; set PYTHON to a newer one"
    rm -rf "$VENV_DIR"
    "$PYTHON" -m venv --copies "$VENV_DIR" ||
      die "$PYTHON can't create virtual environments; install its venv module (python3-venv on Debian)"
    touch "$VENV_DIR/.created"
  fi
  wrap_python
}

wrap_python() {
  local bin=$VENV_DIR/bin lib=$MIGRAPHX_DIR/usr/lib/x86_64-linux-gnu name
  [ -e "$MIGRAPHX_DIR/.complete" ] || return 0
  if [ ! -e "$bin/.python-real" ]; then
    cp -L "$bin/python3" "$bin/.python-real.new"
    mv "$bin/.python-real.new" "$bin/.python-real"
  fi
  for name in python python3 "$(basename "$(ls -d "$VENV_DIR"/lib/python3*)")"; do
    cat >"$bin/.$name.new" <<WRAPPER
#!/bin/sh
exec '$lib/ld-linux-x86-64.so.2' --argv0 "\$0" --library-path '$lib:$lib/migraphx/lib' '$bin/.python-real' "\$@"
WRAPPER
    chmod +x "$bin/.$name.new"
    mv -f "$bin/.$name.new" "$bin/$name"
  done
}

#: config            write an environment script and an example iree-config.yaml into ROOT_DIR
config() {
  setup_dirs
  cat >"$ROOT_DIR/env.sh" <<ENV
# Source this file to use iree_migraphx in a shell: . $ROOT_DIR/env.sh
export PATH="$VENV_DIR/bin:\$PATH"
export IREE_MIGRAPHX_CACHE_DIR="$CACHE_DIR"
# export IREE_CONFIG="$ROOT_DIR/iree-config.yaml"  # extra iree-compile flags
# export IREE_DEBUG=1                              # 0: one line, 1: what happens, 2: everything
# export IREE_DISABLE=1                            # plain MIGraphX
# export IREE_BIN=/path/to/iree-compile            # another compiler
ENV
  [ -e "$ROOT_DIR/iree-config.yaml" ] || cat >"$ROOT_DIR/iree-config.yaml" <<'YAML'
# Extra flags for iree-compile, one a line; used where IREE_CONFIG names this file.
- --iree-opt-level=O3
YAML
  say "wrote $ROOT_DIR/env.sh and $ROOT_DIR/iree-config.yaml"
}

#: all               every step above
all() {
  install_migraphx
  models
  config
}

#: run [ARG...]      everything, then a real model with IREE's kernels in it (arguments go to examples/run_onnx.py)
run() {
  all
  export IREE_MIGRAPHX_CACHE_DIR=$CACHE_DIR
  if [ $# -gt 0 ]; then
    "$VENV_DIR/bin/python" "$REPO_DIR/examples/run_onnx.py" "$@"
    return
  fi
  say "PP-OCRv4 text detection on this machine's CPU, and its kernels for five GPUs"
  "$VENV_DIR/bin/python" "$REPO_DIR/examples/run_onnx.py" "$MODELS_DIR/ch_PP-OCRv4_det_infer.onnx" \
    --input-dim "@x 1 3 320 320" --check --iterations 3 --arch gfx942 --arch gfx90a --arch gfx950 --arch gfx1100 --arch gfx1201
}

#: install_virtual_gpu  build a GPU that only exists in software, for MIGraphX's gpu target on machines without one
install_virtual_gpu() {
  install_migraphx
  install_package
  local lib=usr/lib/x86_64-linux-gnu real=$VENV_DIR/bin/.python-real wrapper=$VENV_DIR/bin/python-virtual-gpu
  local migraphx=$MIGRAPHX_DIR packages=$DEBIAN_GPU_PACKAGES
  # It is made for Debian's MIGraphX, also on a machine that has one of its own.
  [ -e "$migraphx/.complete" ] || migraphx=$VIRTUAL_DIR/debian packages="$DEBIAN_PACKAGES $packages"
  if [ ! -e "$VIRTUAL_DIR/debian/.complete" ]; then
    say "fetching what MIGraphX's gpu target needs without a GPU (about 55 MB, once)"
    mkdir -p "$VIRTUAL_DIR"
    # shellcheck disable=SC2086 # one word a package
    fetch_debian_packages "$VIRTUAL_DIR/debian" $packages
  fi
  "$VENV_DIR/bin/python" "$REPO_DIR/tests/virtual_hip/build.py" \
    "$migraphx/$lib/migraphx/lib" "$VIRTUAL_DIR/debian" "$VIRTUAL_DIR/lib" ||
    die "the virtual GPU could not be built"
  [ -e "$real" ] || real=$(readlink -f "$VENV_DIR/bin/python")
  cat >"$wrapper.new" <<WRAPPER
#!/bin/sh
unset ROCM_PATH
exec '$migraphx/$lib/ld-linux-x86-64.so.2' --argv0 "\$0" --library-path '$VIRTUAL_DIR/lib:$VIRTUAL_DIR/debian/$lib:$migraphx/$lib:$migraphx/$lib/migraphx/lib' '$real' "\$@"
WRAPPER
  chmod +x "$wrapper.new"
  mv -f "$wrapper.new" "$wrapper"
}

#: run_virtual_gpu MODEL [ARG...]  examples/run_onnx.py on a GPU that only exists in software (VIRTUAL_HIP_GFX names it)
run_virtual_gpu() {
  [ $# -gt 0 ] || die "run_virtual_gpu needs an ONNX file"
  install_virtual_gpu
  IREE_MIGRAPHX_CACHE_DIR=$CACHE_DIR "$VENV_DIR/bin/python-virtual-gpu" "$REPO_DIR/examples/run_onnx.py" --target gpu "$@"
}

#: install_torch     torch for CPUs (TORCH names it) and torch_migraphx, for the test that compiles with both
install_torch() {
  install_iree
  local folder=$ROOT_DIR/torch
  if [ -e "$folder/.complete" ]; then
    say "torch is in $folder already"
    return
  fi
  rm -rf "$folder"
  say "fetching torch for CPUs (about 200 MB, once)"
  # Of the versions for CPUs only: the others bring gigabytes along. torch_migraphx asks for numpy 1, and does with 2.
  "$VENV_DIR/bin/python" -m pip install -q --target "$folder" "${TORCH:-torch==2.13.0+cpu}" &&
    "$VENV_DIR/bin/python" -m pip install -q --no-deps --target "$folder" torch_migraphx==1.1 packaging tabulate ||
    die "torch for CPUs is not to be had; PIP_EXTRA_INDEX_URL adds PyTorch's own index for CPUs, TORCH names another version"
  touch "$folder/.complete"
}

#: apply_patches DIR [--undo]  put patches/ into MIGraphX's sources in DIR, or take them out again
apply_patches() {
  local patch=$REPO_DIR/patches/migraphx-launch-dims.patch dir=${1:-} undo=${2:-}
  migraphx_sources "$dir"
  case $undo in "" | --undo) ;; *) die "apply_patches takes a folder and --undo, not $undo" ;; esac
  if git -C "$dir" apply --reverse --check "$patch" 2>/dev/null; then
    [ -n "$undo" ] || { say "$dir has the patch already"; return; }
    git -C "$dir" apply --reverse "$patch"
    say "took the patch out of $dir"
  elif git -C "$dir" apply --check "$patch"; then
    [ -z "$undo" ] || { say "$dir does not have the patch"; return; }
    git -C "$dir" apply "$patch"
    say "patched $dir; build and install MIGraphX from there, ./setup.sh apply_patches $dir --undo takes it back"
  else
    die "the patch does not fit $dir, and nothing was changed. It is for MIGraphX release rocm-7.1.1."
  fi
}

#: check_patches DIR  see that patches/ fits MIGraphX's sources in DIR, and what it touches compiles; DIR is not changed
check_patches() {
  migraphx_sources "${1:-}"
  local copy include="" file compiler folder
  for folder in "$ROCM_PATH/include" "$VIRTUAL_DIR/debian/usr/include"; do
    [ ! -e "$folder/hip/hip_runtime_api.h" ] || include=$folder
  done
  [ -n "$include" ] || die "HIP's headers are missing; ./setup.sh install_virtual_gpu fetches Debian's"
  compiler=${CXX:-$(command -v c++ || command -v clang++)} || die "no C++ compiler was found; install g++ or clang++"
  copy=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$copy'" EXIT
  mkdir -p "$copy/src/targets/gpu" "$copy/made/migraphx/gpu"
  cp -r "$1/src/include" "$copy/src/"
  cp -r "$1/src/targets/gpu/include" "$1"/src/targets/gpu/*.cpp "$copy/src/targets/gpu/"
  # What MIGraphX's own build makes: macros that are nothing here.
  touch "$copy/made/migraphx/export.h" "$copy/made/migraphx/gpu/export.h"
  apply_patches "$copy" >&2
  for file in kernel code_object_op; do
    "$compiler" -std=c++17 -fsyntax-only -DBUILD_DEV -DMIGRAPHX_EXPORT= -DMIGRAPHX_GPU_EXPORT= -D__HIP_PLATFORM_AMD__=1 \
      -I"$copy/made" -I"$copy/src/include" -I"$copy/src/targets/gpu/include" -isystem "$include" \
      "$copy/src/targets/gpu/$file.cpp" || die "$file.cpp does not compile with the patch"
  done
  say "the patch fits $1, and what it touches compiles"
}

# Sees that the folder $1 holds MIGraphX's sources.
migraphx_sources() {
  [ -n "$1" ] || die "which folder holds MIGraphX's sources?"
  command -v git >/dev/null || die "git is needed to apply a patch; install it"
  [ -e "$1/src/targets/gpu/code_object_op.cpp" ] ||
    die "$1 does not hold MIGraphX's sources (https://github.com/ROCm/AMDMIGraphX, release rocm-7.1.1)"
}

#: test [ARG...]     everything, the virtual GPU too, then the linters and the tests (arguments go to pytest)
test() {
  all
  install_virtual_gpu
  (install_torch) || say "without torch, the test that compiles through torch_migraphx is skipped"
  export IREE_MIGRAPHX_CACHE_DIR=$CACHE_DIR
  cd "$REPO_DIR"
  "$VENV_DIR/bin/python" -m ruff check .
  "$VENV_DIR/bin/python" -m ruff format --check .
  "$VENV_DIR/bin/python" -m mypy
  "$VENV_DIR/bin/python" -m pytest "$@"
}

#: clean             remove what the steps made, but keep downloads that are slow to fetch (MIGraphX)
clean() {
  rm -rf "$VENV_DIR" "$VIRTUAL_DIR/lib" "$VIRTUAL_DIR/kernels" "$MODELS_DIR" "$CACHE_DIR" "$ROOT_DIR/env.sh" "$ROOT_DIR/apt" \
    "$ROOT_DIR/torch"
}

#: purge             remove everything the steps made
purge() {
  clean
  rm -rf "$MIGRAPHX_DIR" "$MIGRAPHX_DIR.partial" "$VIRTUAL_DIR" "$ROOT_DIR/iree-config.yaml"
  rmdir "$ROOT_DIR" 2>/dev/null || true
}

#: help              this list
help() {
  printf 'usage: ./setup.sh STEP [ARG...]\n\n'
  sed -n 's/^#: /  /p' "${BASH_SOURCE[0]}"
  printf '\nROOT_DIR (%s) holds everything; PYTHON, ROCM_PATH and DEBIAN_MIRROR override what is found.\n' "$ROOT_DIR"
}

main() {
  local step=${1:-help}
  [ $# -eq 0 ] || shift
  case $step in
    -h | --help) step=help ;;
  esac
  sed -n 's/^#: \([a-z_]*\).*/\1/p' "${BASH_SOURCE[0]}" | grep -qx -- "$step" ||
    die "no step named '$step'; ./setup.sh help lists them"
  "$step" "$@"
}

main "$@"
