#!/bin/bash
# The first process of a host (hosts.py): NAME ADDRESS VENV FOLDER..., where the FOLDERs stay visible though they may lie
# under /tmp. Prints a line when the host stands, then waits until its input closes. As process 1 it also buries orphans.
set -euo pipefail
name=$1 address=$2 venv=$3
shift 3

hostname "$name"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd /run/upper /run/work /run/tmp /run/etc
mount -t tmpfs -o mode=1777,size=2G tmpfs /run/tmp
for folder in "$venv" "$@"; do
    if [[ $folder == /tmp/* ]]; then
        mkdir -p "/run$folder"
        mount --bind "$folder" "/run$folder"
    fi
done
mount --rbind /run/tmp /tmp
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777,size=2G tmpfs /var/tmp

# A copy of the Python environment: what is installed here changes no other.
mount -t overlay overlay -o "lowerdir=$venv,upperdir=/run/upper,workdir=/run/work" "$venv"

# One user, with all rights on this host, as whom ssh lets in; names without a server of names.
printf '%s:x:0:0::%s:/bin/bash\n' "$USER" "$HOME" root "$HOME" > /run/etc/passwd
echo 'sshd:x:100:65534::/run/sshd:/bin/false' >> /run/etc/passwd
printf '%s\n' '127.0.0.1 localhost' "$address $name" > /run/etc/hosts
: > /run/etc/resolv.conf
for file in passwd hosts resolv.conf; do
    mount --bind "/run/etc/$file" "$(readlink -f "/etc/$file")"
done
mkdir -p "$HOME"
ln -s "$venv" "$HOME/prefrec-venv"

echo stands
while read -r _; do :; done
