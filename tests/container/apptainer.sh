#!/usr/bin/env bash
# Prints the path of a working apptainer: the one on PATH, or one made from Debian sid's packages in a folder.
#
#     tests/container/apptainer.sh [FOLDER]        (default: ~/.cache/bids-xai-tests/apptainer)
#
# For Debian machines whose own release has no apptainer. Its packages are unpacked beside the system, with sid's
# C library for themselves alone; nothing of sid is installed. Such an apptainer runs with --userns only.
set -euo pipefail

if command -v apptainer; then exit 0; fi

folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/bids-xai-tests/apptainer}
root=$folder/root
program=$folder/root/usr/bin/apptainer
mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9                                       # tests that run side by side make it once
if [[ -x $folder/apptainer ]]; then echo "$folder/apptainer"; exit 0; fi

missing=()
for pair in mksquashfs:squashfs-tools squashfuse:squashfuse patchelf:patchelf; do
    command -v "${pair%:*}" > /dev/null || missing+=("${pair#*:}")
done
if ((${#missing[@]})); then
    apt-get -qq -o DPkg::Lock::Timeout=300 update >&2
    apt-get -qq -o DPkg::Lock::Timeout=300 install --no-install-recommends -y "${missing[@]}" >&2
fi

# The archive that this machine installs from, at its suite "sid"; proxies and such come from /etc/apt/apt.conf.d.
site=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
rm -rf "$root" "$folder/apt"
mkdir -p "$root" "$folder"/apt/{state/lists/partial,cache/archives/partial,packages}
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site sid main" > "$folder/apt/sources.list"
: > "$folder/apt/status"
cat > "$folder/apt/apt.conf" <<CONF
Dir::State "$folder/apt/state";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt/cache";
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "root";
Acquire::Languages "none";
CONF
export APT_CONFIG=$folder/apt/apt.conf
apt-get -qq update >&2
(cd "$folder/apt/packages" && apt-get -qq download apptainer libc6 libseccomp2 libsqlite3-0 >&2)
for package in "$folder"/apt/packages/*.deb; do dpkg-deb -x "$package" "$root"; done
rm -rf "$folder/apt"

loader=$(find "$root" -name 'ld-linux*.so.*' -print -quit)
libraries=$(dirname "$(find "$root" -name 'libc.so.6' -print -quit)")
for binary in "$program" "$(find "$root" -path '*/apptainer/bin/starter' -print -quit)"; do
    patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" "$binary"
done
# apptainer looks for its files beside its binary, where Debian's packages put them into /etc and /var.
for prefix in "$root/usr" "$root/usr/lib"; do
    ln -sfn "$root/etc" "$prefix/etc"
    ln -sfn "$root/var" "$prefix/var"
done
mkdir -p "$root/var/lib/apptainer/mnt/session"
"$program" --version >&2
ln -sfn "$program" "$folder/apptainer"
echo "$folder/apptainer"
